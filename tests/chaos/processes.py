"""Processes of this machine, and machines that freeze."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from ..farm import wait


def freeze(pid: int, seconds: float) -> None:
    """Stop a process and all its descendants for a while."""
    frozen = [pid]
    for process in frozen:  # which grows by what a process had forked before it stopped
        _signal(process, signal.SIGSTOP)
        wait(lambda process=process: not _may_fork(process))  # type: ignore[misc]  # bound now
        frozen += children(process)
    time.sleep(seconds)
    for process in reversed(frozen):
        _signal(process, signal.SIGCONT)


def children(pid: int) -> list[int]:
    """The processes that it has forked, those that have ended aside."""
    return [process for process in living() if _status(process)[1] == str(pid)]


def living() -> Iterator[int]:
    """All processes but those that have ended and wait to be noticed."""
    for directory in Path("/proc").glob("[0-9]*"):
        if _status(int(directory.name))[0] not in "ZX":
            yield int(directory.name)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended as we looked


def _may_fork(pid: int) -> bool:
    return _status(pid)[0] not in "TZX"


def _status(pid: int) -> tuple[str, str]:
    """The state and the parent of a process; X, for dead, when it is gone."""
    try:
        # proc(5): the name in parentheses may hold anything.
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "X", ""
    return state, parent
