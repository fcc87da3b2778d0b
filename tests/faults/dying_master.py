"""A master that dies by SIGKILL, with all its workers, at one point of its first submit. Run: dying_master.py POINT."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dist_test.master import command, service
from dist_test.storage import submissions
from dist_test.storage.queue import Queue
from dist_test.storage.submissions import Submissions


def _die(*_: Any, **__: Any) -> None:
    os.killpg(0, signal.SIGKILL)


def _put_half(put_all: Callable[..., object]) -> Callable[..., None]:
    def put(queue: Queue, entries: Sequence[tuple[int, str]], **options: int) -> None:
        put_all(queue, entries[: len(entries) // 2], **options)
        _die()

    return put


def _die_after(act: Callable[..., Any]) -> Callable[..., None]:
    def acted(*arguments: Any) -> None:
        act(*arguments)
        _die()

    return acted


POINTS: dict[str, Callable[[], None]] = {
    "before the commit": lambda: setattr(submissions, "write_events", _die),
    "after the commit": lambda: setattr(Submissions, "store", _die),
    "amid the puts": lambda: setattr(Queue, "put_all", _put_half(Queue.put_all)),
    "after the puts": lambda: setattr(Submissions, "complete", _die),
    "before the answer": lambda: setattr(service.Service, "submit", _die_after(service.Service.submit)),
}

if __name__ == "__main__":
    POINTS[sys.argv[1]]()
    sys.exit(command.main(["serve"]))
