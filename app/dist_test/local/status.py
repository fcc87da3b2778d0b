"""What a cluster says about itself: a file for `status`, `env` and `down`, and a lock that says whether it is up."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from dist_test.errors import LocalClusterError
from dist_test.local.configuration import Files
from dist_test.local.program import wait_until, write_private

_ASKERS_LIMIT = timedelta(seconds=0.5)


@dataclass(frozen=True, kw_only=True)
class ProgramStatus:
    """One row of the table. `address` is empty for a program that nobody calls; `state` is for people."""

    name: str
    pid: int
    address: str
    state: str


@dataclass(frozen=True, kw_only=True)
class ClusterStatus:
    """`is_ready` is False until every program has answered once."""

    is_ready: bool
    master_url: str
    isolate_url: str
    programs: tuple[ProgramStatus, ...]

    def write(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "ClusterStatus | None":
        """What was written last; None when nothing was."""
        try:
            fields = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        programs = tuple(ProgramStatus(**program) for program in fields.pop("programs"))
        return cls(**fields, programs=programs)


@contextmanager
def hold_lock(files: Files) -> Iterator[None]:
    """Hold the lock of a state directory, with our pid in it; it goes when we go, however that happens.

    What a killed holder said of its cluster is forgotten. Raises LocalClusterError when another process holds it.
    """
    with files.lock.open("a+") as file:
        # Not at the first failure: who asks for the holder has the lock for an instant.
        if not wait_until(lambda: _is_locked(file), limit=_ASKERS_LIMIT):
            raise LocalClusterError(
                f"a cluster is up in {files.state_dir} already (pid {files.lock.read_text()});"
                f" see `dist-test local status`, or end it with `dist-test local down`"
            )
        # Before our pid is there: nobody may take it for what we say.
        files.status.unlink(missing_ok=True)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_holder(path: Path) -> int | None:
    """The pid of the process that keeps a cluster up; None when it is down."""
    try:
        file = path.open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0) or None
    return None


def read_status(state_dir: Path) -> ClusterStatus:
    """The status of the cluster that is up in `state_dir`. Raises LocalClusterError when none is."""
    files = Files(state_dir=state_dir)
    status = ClusterStatus.read(files.status)
    if lock_holder(files.lock) is None or status is None:
        raise LocalClusterError(f"no cluster is up in {state_dir}; start one with `dist-test local up --detach`")
    return status
