"""What a cluster says about itself: a file for `status`, `env` and `down`, and a lock that says whether it is up."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.configuration import Files
from dist_test.local.program import write_private


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
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a state directory, with our pid in it; it goes when we go, however that happens.

    Raises LocalClusterError when another process holds it.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalClusterError(
                f"a cluster is up in {path.parent} already (pid {path.read_text()});"
                f" see `dist-test local status`, or end it with `dist-test local down`"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


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
