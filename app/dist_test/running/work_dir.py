"""A slot's directory on disk, which one Runner at a time may use."""

import fcntl
import os
import subprocess
import time
from pathlib import Path

from dist_test.errors import RunError
from dist_test.running.users import TaskUser

_LOCK_LIMIT_SECONDS = 30.0  # what the launchers of a Runner that was killed may need to end its task and clean up
_LOCK_INTERVAL_SECONDS = 0.02


class WorkDir:
    """`attempt` belongs to the task user; `results` and `engine` are ours, out of a task's reach."""

    def __init__(self, path: Path, user: TaskUser | None) -> None:
        self._path = path
        self._user = user
        self.attempt = path / "t"  # short: tests put Unix sockets below it, whose paths end at 107 bytes
        self.results = path / "results"
        self.engine = path / "engine"
        self.lock_fd = -1

    def prepare(self, *, lock_limit_seconds: float = _LOCK_LIMIT_SECONDS) -> None:
        """Make the directories, wait for their earlier Runner to be gone, remove its results. Raises RunError."""
        try:
            self._path.mkdir(mode=0o711, parents=True, exist_ok=True)
            self._lock(lock_limit_seconds)
            self.results.mkdir(mode=0o700, exist_ok=True)
            self.engine.mkdir(mode=0o700, exist_ok=True)
            for leftover in self.results.iterdir():
                leftover.unlink()
            self._make_attempt()
        except OSError as error:
            self.release()
            raise RunError(f"cannot prepare {self._path}: {error}") from error

    def release(self) -> None:
        """Let others use it, once the launchers that have the lock too are gone."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def set_aside(self) -> Path:
        """Move the attempt's directory out of reach of later tasks, for a human to look at; return its tree."""
        leaked = self._path / f"leaked-{time.time_ns()}"
        self.attempt.rename(leaked)
        os.chown(leaked, os.getuid(), os.getgid())
        self._make_attempt()
        return leaked / "tree"

    def _make_attempt(self) -> None:
        self._remove_anothers()
        self.attempt.mkdir(mode=0o700, exist_ok=True)
        if self._user is not None:
            os.chown(self.attempt, self._user.uid, self._user.gid)

    def _remove_anothers(self) -> None:
        """A restart may give the slot another user, who cannot clean what the earlier one owns."""
        if self._user is None or not self.attempt.exists():
            return
        if {path.lstat().st_uid for path in (self.attempt, *self.attempt.iterdir())} != {self._user.uid}:
            # As root where tasks could write: rm goes by descriptors, and follows no link that somebody swaps in.
            removing = ["/bin/rm", "-rf", "--one-file-system", "--", str(self.attempt)]
            subprocess.run(removing, check=False, stderr=subprocess.DEVNULL)

    def _lock(self, limit_seconds: float) -> None:
        self.lock_fd = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + limit_seconds
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    self.release()
                    raise RunError(f"{self._path} is in use by another slot; give each slot its own") from error
                time.sleep(_LOCK_INTERVAL_SECONDS)
            else:
                return
