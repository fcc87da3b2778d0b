"""What a user can leave behind outside of its tree: files in public directories, and System V IPC objects."""

import ctypes
import os
import time
from collections.abc import Callable

from dist_test.running.tree import remove_tree

PUBLIC_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue")
_CLOCK_TICK_NS = 100_000_000  # file systems stamp with the tick of a coarse clock; this is far above any of them
_READ_BYTES = 2**16
_IPC_RMID = 0  # linux/ipc.h
_LIBC = ctypes.CDLL(None)
# What a killed PostgreSQL leaves, say. The kernel allows 4,096 segments in all, so they would run out.
_IPC_KINDS: dict[str, Callable[[int], object]] = {
    "shm": lambda identifier: _LIBC.shmctl(identifier, _IPC_RMID, None),
    "sem": lambda identifier: _LIBC.semctl(identifier, 0, _IPC_RMID),
    "msg": lambda identifier: _LIBC.msgctl(identifier, _IPC_RMID, None),
}


class Litter:
    """Removes all that one user owns there, after each attempt. Only for a user that exists for one slot alone."""

    def __init__(self, uid: int) -> None:
        self._uid = uid
        self._clean_since: dict[str, int] = {}
        self._listings = {kind: fd for kind in _IPC_KINDS if (fd := _open(f"/proc/sysvipc/{kind}")) is not None}

    def remove(self) -> None:
        """Raises OSError when something cannot be removed."""
        for directory in PUBLIC_DIRECTORIES:
            self._clean(directory)
        for kind, listing in self._listings.items():
            for identifier in _ipc_owned_by(self._uid, listing):
                _IPC_KINDS[kind](identifier)

    def _clean(self, directory: str) -> None:
        # Listing a full /tmp for each small task would cost more than the task. Its own time tells whether anything
        # was added; only root could set it back.
        changed = _changed_ns(directory)
        if changed == self._clean_since.get(directory):
            return
        for path in _owned_by(self._uid, directory):
            remove_tree(path)
        if time.time_ns() - changed > _CLOCK_TICK_NS:  # else another change could carry the same time
            self._clean_since[directory] = changed


def _changed_ns(directory: str) -> int:
    try:
        return os.stat(directory).st_mtime_ns  # noqa: PTH116 -- a Path costs more than the call
    except FileNotFoundError:
        return 0  # this machine has no such directory


def _owned_by(uid: int, directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if _owner(entry) == uid]
    except FileNotFoundError:
        return []


def _owner(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat(follow_symlinks=False).st_uid
    except FileNotFoundError:
        return None  # another user's, just removed


def _ipc_owned_by(uid: int, listing: int) -> list[int]:
    header, *rows = _read_again(listing).splitlines()
    if not rows:
        return []
    owner = header.split().index(b"uid")
    return [int(row.split()[1]) for row in rows if int(row.split()[owner]) == uid]


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # a kernel without System V IPC


def _read_again(fd: int) -> bytes:
    content = b""
    while part := os.pread(fd, _READ_BYTES, len(content)):
        content += part
    return content
