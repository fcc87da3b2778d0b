"""The users that tasks run as: `dist-test-task0`, `dist-test-task1`, ..., each for one slot of one slave at a time."""

import fcntl
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dist_test.errors import ConfigurationError

USER_PREFIX = "dist-test-task"
LOCK_DIR = Path("/run/lock/dist_test")
MAX_SLOT_USERS = 1024


@dataclass(frozen=True, kw_only=True)
class TaskUser:
    """A user of this machine that runs tasks and nothing else: everything that it owns may be killed or removed."""

    name: str
    uid: int
    gid: int


class ClaimedUser:
    """A task user that is ours alone until released, or until this process ends."""

    def __init__(self, user: TaskUser, lock_fd: int) -> None:
        self.user = user
        self._lock_fd = lock_fd

    def release(self) -> None:
        os.close(self._lock_fd)

    def __enter__(self) -> TaskUser:
        return self.user

    def __exit__(self, *_: object) -> None:
        self.release()


def claim_user(*, prefix: str = USER_PREFIX, lock_dir: Path = LOCK_DIR, create: bool = False) -> ClaimedUser:
    """Claim the first task user that no slave of this machine holds; with `create`, add the user when there is none.

    Only root may. Raises ConfigurationError when every user is taken, naming the next one and how to add it.
    """
    if os.geteuid() != 0:
        raise ConfigurationError("only root can run tasks as other users; start without users of their own instead")
    _make_lock_dir(lock_dir)
    for index in range(MAX_SLOT_USERS):
        name = f"{prefix}{index}"
        user = _find(name) or (_create(name) if create else None)
        if user is None:
            raise ConfigurationError(
                f"user {name} is missing, and the task users before it are taken by other slots; "
                f"add it with: {' '.join(_useradd(name))}"
            )
        lock_fd = _lock(lock_dir / f"{name}.lock")
        if lock_fd is not None:
            return ClaimedUser(user, lock_fd)
    raise ConfigurationError(f"all {MAX_SLOT_USERS} task users {prefix}0, {prefix}1, ... are taken")


def _find(name: str) -> TaskUser | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    if entry.pw_uid == 0:
        raise ConfigurationError(f"user {name} has uid 0; a task user must not be root")
    return TaskUser(name=name, uid=entry.pw_uid, gid=entry.pw_gid)


def _create(name: str) -> TaskUser:
    done = subprocess.run(_useradd(name), check=False, capture_output=True, text=True)
    user = _find(name)  # two local clusters may have added it at the same time: either way it is there
    if user is None:
        raise ConfigurationError(f"could not add user {name}: {done.stderr.strip()}")
    return user


def _useradd(name: str) -> list[str]:
    return ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", name]


def _make_lock_dir(lock_dir: Path) -> None:
    # /run/lock is open to all: a lock file there could be held by a task, or be a link of its making.
    lock_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = lock_dir.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
        raise ConfigurationError(f"{lock_dir} must be a directory that only root can write to; remove it")


def _lock(path: Path) -> int | None:
    lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock_fd)
        return None
    return lock_fd
