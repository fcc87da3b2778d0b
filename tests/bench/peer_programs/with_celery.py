"""Celery on Redis: a task a command, two worker processes; broker and results in a Redis without persistence."""

import os
import subprocess
import sys
from collections.abc import Sequence

from celery import Celery

from tests.bench.peer_programs.rounds import serve, spawn

URL = os.environ["PEER_REDIS"]
app = Celery("peer", broker=URL, backend=URL)
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
task = app.task(name="spawn")(spawn)


def run(command: Sequence[str], count: int) -> None:
    for result in [task.delay(command) for _ in range(count)]:
        result.get()


def main() -> None:
    options = ["--concurrency=2", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
    module = "tests.bench.peer_programs.with_celery"
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", module, "worker", *options], stdin=subprocess.DEVNULL, stdout=2
    )
    serve(run)
    worker.terminate()
    worker.wait()


if __name__ == "__main__":
    main()
