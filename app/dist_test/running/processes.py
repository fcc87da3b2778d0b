"""Finding and ending processes: all of a user, all of a subtree, all that carry a marker."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

KILL_INTERVAL_SECONDS = 0.02
KILL_LIMIT_SECONDS = (
    30.0  # a process in uninterruptible sleep may take its time; one that takes longer needs an operator
)


def kill_all_of_this_user() -> None:
    """SIGKILL every process that this process's user may signal, but this one. Never call it as root.

    The kernel does it in one go and refuses forks in the middle, so nothing can outrun it.
    """
    if os.geteuid() == 0 or os.getuid() == 0:
        raise PermissionError("kill(-1) as root would end the whole machine")
    _kill(-1)


def kill_descendants() -> None:
    """SIGKILL the children of this process and all theirs, as far as /proc shows them at this moment.

    Weaker than ending a whole user: who forks faster than we read may need many rounds.
    """
    for pid in list(_descendants(os.getpid())):
        _kill(pid)


def end_children(kill: Callable[[], None], *, limit_seconds: float = KILL_LIMIT_SECONDS) -> bool:
    """Kill again and again until this process, a subreaper, has no descendant left; False when some outlive the limit.

    Orphans become children of their subreaper, so "no children" means "no descendants", without reading /proc.
    """
    deadline = time.monotonic() + limit_seconds
    while True:
        kill()
        if not reap():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(KILL_INTERVAL_SECONDS / 20)


def wait_for_children(limit_seconds: float) -> bool:
    """Give the descendants time to end by themselves; True when all have."""
    deadline = time.monotonic() + limit_seconds
    while reap():
        if time.monotonic() > deadline:
            return False
        time.sleep(KILL_INTERVAL_SECONDS)
    return True


def reap(ended: dict[int, int] | None = None) -> bool:
    """Collect the children that have ended, their wait status into `ended` by pid; say whether any child is left."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if ended is not None:
            ended[pid] = status


def processes_of(uid: int) -> list[int]:
    """The pids of the processes, zombies aside, whose real, effective or saved user is `uid`."""
    return [pid for pid in _all_pids() if uid in _live_uids(pid)]


def processes_marked(marker: str) -> list[int]:
    """The pids of the processes that were started with `marker` (NAME=value) in their environment."""
    wanted = marker.encode()
    return [pid for pid in _all_pids() if wanted in _read(f"/proc/{pid}/environ").split(b"\0")]


def end_processes_of(uid: int, gid: int, *, limit_seconds: float = KILL_LIMIT_SECONDS) -> list[int]:
    """As root: kill all processes of a user and return those that are left after the limit."""
    deadline = time.monotonic() + limit_seconds
    while left := processes_of(uid):
        # A child that *is* that user may kill(-1): without races, and without harm to anyone else.
        subprocess.run(
            ["/bin/sh", "-c", "kill -KILL -1"], user=uid, group=gid, extra_groups=[], check=False, env={}, cwd="/"
        )
        if time.monotonic() > deadline:
            return left
        time.sleep(KILL_INTERVAL_SECONDS)
    return []


def end_processes_marked(marker: str, *, limit_seconds: float = KILL_LIMIT_SECONDS) -> list[int]:
    """Kill all processes with this marker in their environment and return those that are left after the limit."""
    deadline = time.monotonic() + limit_seconds
    while left := processes_marked(marker):
        for pid in left:
            _kill(pid)
        if time.monotonic() > deadline:
            return left
        time.sleep(KILL_INTERVAL_SECONDS)
    return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # gone already, or it has become someone else's


def _descendants(pid: int) -> Iterator[int]:
    for task in _listing(f"/proc/{pid}/task"):
        for child in _read(f"/proc/{pid}/task/{task}/children").split():
            yield int(child)
            yield from _descendants(int(child))


def _all_pids() -> Iterator[int]:
    return (int(name) for name in _listing("/proc") if name.isdigit())


def _live_uids(pid: int) -> list[int]:
    # The owner of /proc/PID will not do: it is root for a process that forbids dumps.
    status = dict(line.split(b":\t", 1) for line in _read(f"/proc/{pid}/status").splitlines() if b":\t" in line)
    if status.get(b"State", b"Z").startswith((b"Z", b"X")):
        return []
    return [int(uid) for uid in status[b"Uid"].split()]


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)  # noqa: PTH208 -- plain strings, for all of /proc
    except OSError:
        return []  # that process has just ended


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""  # that process has just ended, or is not ours to read
