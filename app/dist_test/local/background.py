"""A cluster whose `up` runs in the background: start it, wait until it is ready, end it."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.configuration import Files
from dist_test.local.program import spawn, wait_until
from dist_test.local.status import ClusterStatus, lock_holder

_READY_LIMIT = timedelta(seconds=90)
# Slaves drain, uploads end, MariaDB flushes. Past this, SIGKILL takes all: its children die with it.
_DOWN_LIMIT = timedelta(seconds=60)


def start(state_dir: Path, *, slaves: int, slots: int, dies_with_us: bool) -> ClusterStatus:
    """Run `dist-test local up` in the background and return its status once it is ready.

    `dies_with_us`: take the cluster down when this process ends, however that happens.
    Raises LocalClusterError with what it printed when it does not get there.
    """
    files = Files(state_dir=state_dir.absolute())
    files.make()
    log_start = files.log.stat().st_size if files.log.exists() else 0
    process = _spawn(_up_command(files, slaves=slaves, slots=slots), files.log, dies_with_us=dies_with_us)
    wait_until(lambda: process.poll() is not None or _ready_status(files, process.pid) is not None, limit=_READY_LIMIT)
    if status := _ready_status(files, process.pid):
        return status
    if process.poll() is None:
        process.terminate()
        process.wait()
    raise LocalClusterError(files.log.read_bytes()[log_start:].decode(errors="replace").strip())


def stop(state_dir: Path) -> bool:
    """Take the cluster down and wait until it is; False when none was up."""
    pid = lock_holder(Files(state_dir=state_dir).lock)
    if pid is None:
        return False
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True  # it ended by itself a moment ago
    try:
        if not _ends_after(descriptor, signal.SIGTERM):
            _ends_after(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)
    return True


def _up_command(files: Files, *, slaves: int, slots: int) -> list[str]:
    options = ["--slaves", str(slaves), "--slots", str(slots), "--state", str(files.state_dir)]
    return [sys.executable, "-m", "dist_test.local", "up", *options]


def _spawn(command: Sequence[str], log_path: Path, *, dies_with_us: bool) -> "subprocess.Popen[bytes]":
    if dies_with_us:
        return spawn(command, log_path=log_path, environment=os.environ, death_signal="TERM")
    with log_path.open("ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def _ready_status(files: Files, pid: int) -> ClusterStatus | None:
    """The status that the process `pid` wrote, once it says that everything is up."""
    if lock_holder(files.lock) != pid:
        return None
    status = ClusterStatus.read(files.status)
    return status if status is not None and status.is_ready else None


def _ends_after(process_descriptor: int, number: signal.Signals) -> bool:
    signal.pidfd_send_signal(process_descriptor, number)
    poller = select.poll()
    poller.register(process_descriptor, select.POLLIN)
    return bool(poller.poll(_DOWN_LIMIT.total_seconds() * 1000))
