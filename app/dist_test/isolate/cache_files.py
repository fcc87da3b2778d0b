"""The files of the blob cache: what is there, what is pinned, what is on its way, and what has to go."""

# Plain strings: a Path costs more than the system call that it is made for.
# ruff: noqa: PTH101, PTH102, PTH103, PTH104, PTH108, PTH116

import fcntl
import logging
import os
import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

from dist_test.errors import CacheFull
from dist_test.isolate.cache_limits import CacheLimits, Entry, Room, choose_victims, fits, total_of

logger = logging.getLogger(__name__)

_USAGE = struct.Struct("<qq")
_LENGTH = struct.Struct("<q")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_UNWRITTEN_NS = 120 * 10**9  # Linux writes dirty pages back within about 35 s; blobs are not synced one by one
_SAME_USE_NS = 10**9  # marking a blob as used costs more than all else about it; once a second is exact enough


class Blob(NamedTuple):
    """A blob and the name of its file, whether or not it is there."""

    digest: str
    size_bytes: int
    name: str


class Pin:
    """What an open checkout holds in the cache, and what it expects to come.

    The file has digests separated by spaces, those expected as DIGEST:SIZE, after their length in bytes. It is locked
    by its owner; an unlocked one belongs to nobody any more. It is used again by the next checkout, since making and
    removing files costs more than all the rest of a checkout.
    """

    def __init__(self, files: "CacheFiles", path: str) -> None:
        self._files = files
        self._path = path
        self._text = ""
        with files.locked(fcntl.LOCK_SH):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def hold(self, digests: str) -> None:
        """Hold these digests, separated by spaces, in place of the ones before."""
        with self._files.locked(fcntl.LOCK_SH):
            self._write(digests)

    def expect(self, blobs: Iterable[Blob]) -> None:
        """Hold these blobs too, and count them until they are there. Only under the exclusive lock."""
        self._write(" ".join([self._text, *(f"{blob.digest}:{blob.size_bytes}" for blob in blobs)]))

    def clear(self) -> None:
        """Hold and expect nothing."""
        self._write("")

    def remove(self) -> None:
        """Remove the file."""
        os.unlink(self._path)
        os.close(self._descriptor)

    def _write(self, text: str) -> None:
        content = text.encode()
        os.pwrite(self._descriptor, _LENGTH.pack(len(content)) + content, 0)
        self._text = text


class CacheFiles:
    """The cache's directory. Everything here may be called from several threads and processes at a time."""

    def __init__(self, root: Path, limits: CacheLimits) -> None:
        """Make the directories, drop what crashes left, count the rest. Raises OSError."""
        self._root = os.fspath(root.absolute())
        self._limits = limits
        self.blobs = f"{self._root}/blobs"
        self._pins = f"{self._root}/pins/{secrets.token_hex(8)}"
        self._pin_numbers = count()
        self._idle_pins: list[Pin] = []
        self._make_directories()
        with self.locked(fcntl.LOCK_EX):
            self._sweep()

    def path(self, digest: str) -> str:
        """The name of a blob's file."""
        return f"{self.blobs}/{digest[:2]}/{digest}"

    @contextmanager
    def pinned(self, digests: str) -> Iterator[Pin]:
        """Keep these blobs, separated by spaces, from being dropped. They need not be there yet."""
        pin = self._take_pin()
        try:
            pin.hold(digests)
            yield pin
        finally:
            pin.clear()
            self._idle_pins.append(pin)

    def _take_pin(self) -> Pin:
        # Asking first and popping then would be two steps, between which another thread may pop.
        try:
            return self._idle_pins.pop()
        except IndexError:
            return Pin(self, f"{self._pins}.{next(self._pin_numbers)}")

    def close(self) -> None:
        """Remove the pins, none of which may be in use."""
        while self._idle_pins:
            self._idle_pins.pop().remove()

    def use(self, blobs: Iterable[Blob]) -> list[Blob]:
        """Mark the blobs as used in this second; return those that are not there or not of their size."""
        missing = []
        now = time.time_ns()
        for blob in blobs:
            try:
                found = os.stat(blob.name)
                if found.st_size == blob.size_bytes:
                    if now - found.st_atime_ns > _SAME_USE_NS:
                        os.utime(blob.name, ns=(now, found.st_mtime_ns))
                    continue
                logger.warning(
                    "fetching a damaged blob again", extra={"action": "cache_damaged", "digest": blob.digest}
                )
            except FileNotFoundError:
                pass
            missing.append(blob)
        return missing

    def make_room(self, blobs: Sequence[Blob], pin: Pin) -> None:
        """Make sure that these blobs fit in as well, dropping those used longest ago. Raises CacheFull."""
        with self.locked(fcntl.LOCK_EX):
            pin.expect(blobs)
            pinned, expected = self._read_pins()
            coming = self._coming(expected)
            if not fits(self._read_usage().plus(coming), self._free_bytes() - coming.size_bytes, self._limits):
                self._trim(blobs, pinned, coming)

    @contextmanager
    def incoming(self, digest: str, size_bytes: int | None) -> Iterator[Path | None]:
        """A file to fetch the blob into; None when it is there after all.

        Waits while somebody else fetches the same blob. What was not kept by the end is removed.
        """
        path = f"{self._root}/incoming/{digest}"
        descriptor = _lock_file(path)
        try:
            yield None if self._has(digest, size_bytes) else Path(path)
        finally:
            # Kept: renamed away, and whoever waited for us has made a new one. Not ours to remove.
            if _is_at(descriptor, path):
                os.unlink(path)
            os.close(descriptor)

    def keep(self, digest: str, partial: Path, size_bytes: int) -> None:
        """Make a fetched blob, for which there is room, part of the cache."""
        os.chmod(partial, 0o444)
        with self.locked(fcntl.LOCK_EX):
            os.rename(partial, self.path(digest))
            self._write_usage(self._read_usage().plus(Room(size_bytes, 1)))

    @contextmanager
    def locked(self, kind: int) -> Iterator[None]:
        """The lock over pins and dropping: shared to pin, exclusive to drop and to count."""
        # A descriptor of its own each time: flock's locks belong to the open file, which threads would share.
        descriptor = os.open(f"{self._root}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind)
            yield
        finally:
            os.close(descriptor)

    def touch(self, digest: str) -> None:
        """Mark a blob as just used, if it is there."""
        path = self.path(digest)
        self.use([Blob(digest, os.stat(path).st_size, path)])

    def _has(self, digest: str, size_bytes: int | None) -> bool:
        try:
            return size_bytes in (None, os.stat(self.path(digest)).st_size)
        except FileNotFoundError:
            return False

    def _coming(self, expected: dict[str, int]) -> Room:
        """The room for what open checkouts expect: a blob that several of them wait for comes once."""
        absent = [size for digest, size in expected.items() if not self._has(digest, None)]
        return Room(sum(absent), len(absent))

    def _trim(self, blobs: Sequence[Blob], pinned: set[str], coming: Room) -> None:
        entries = self._scan()
        taken = total_of(entries).plus(coming)
        victims = choose_victims(entries, pinned, taken, self._free_bytes() - coming.size_bytes, self._limits)
        if victims is None:
            raise CacheFull(self._why_full(blobs, entries, pinned, coming))
        for entry in victims:
            os.unlink(self.path(entry.digest))
        self._write_usage(total_of(entries).plus(total_of(victims).negative()))
        logger.info("dropped %d blobs from the cache", len(victims), extra={"action": "cache_trimmed"})

    def _why_full(self, blobs: Sequence[Blob], entries: Sequence[Entry], pinned: set[str], coming: Room) -> str:
        in_use = total_of([entry for entry in entries if entry.digest in pinned]).plus(coming)
        limits = self._limits
        return (
            f"{len(blobs)} blobs of {sum(blob.size_bytes for blob in blobs)} bytes do not fit into the cache"
            f" {self._root}: with them, {in_use.items} blobs of {in_use.size_bytes} bytes are in use; it may hold"
            f" {limits.max_items} blobs of {limits.max_bytes} bytes; its disk has {self._free_bytes()} bytes free, of"
            f" which {limits.min_free_bytes} must stay free. Raise isolate.cache_max_bytes or isolate.cache_max_items,"
            " or free space on the disk"
        )

    def _free_bytes(self) -> int:
        disk = os.statvfs(self._root)
        return disk.f_bavail * disk.f_frsize

    def _make_directories(self) -> None:
        # Users that run tasks may open a blob whose name they know, and see nothing else.
        os.makedirs(self._root, exist_ok=True)
        for path in (self._root, self.blobs, *(f"{self.blobs}/{number:02x}" for number in range(256))):
            _make_directory(path, 0o711)
        for name in ("incoming", "pins"):
            _make_directory(f"{self._root}/{name}", 0o700)

    def _sweep(self) -> None:
        self._read_pins()
        with os.scandir(f"{self._root}/incoming") as listing:
            for entry in listing:
                _unlink_unless_locked(entry.path)
        entries = self._drop_unwritten(self._scan())
        self._write_usage(total_of(entries))

    def _drop_unwritten(self, entries: list[Entry]) -> list[Entry]:
        # The machine may have lost power: what arrived last before that may have the right size and no content.
        boot_id = _BOOT_ID.read_text()
        mark = Path(self._root, "boot_id")
        if mark.exists() and mark.read_text() != boot_id:
            safe_ns = max((entry.arrived_ns for entry in entries), default=0) - _UNWRITTEN_NS
            for entry in entries:
                if entry.arrived_ns > safe_ns:
                    os.unlink(self.path(entry.digest))
            entries = [entry for entry in entries if entry.arrived_ns <= safe_ns]
        mark.write_text(boot_id)
        return entries

    def _scan(self) -> list[Entry]:
        entries = []
        for number in range(256):
            with os.scandir(f"{self.blobs}/{number:02x}") as listing:
                for item in listing:
                    found = item.stat()
                    entries.append(Entry(found.st_atime_ns, found.st_mtime_ns, item.name, found.st_size))
        return entries

    def _read_pins(self) -> tuple[set[str], dict[str, int]]:
        """What open checkouts hold, and what they expect and its sizes; pins of dead processes are removed."""
        pinned: set[str] = set()
        expected: dict[str, int] = {}
        with os.scandir(f"{self._root}/pins") as listing:
            for entry in listing:
                if _unlink_unless_locked(entry.path):
                    continue
                for token in _pin_text(_read(entry.path)).split():
                    digest, _, size = token.partition(":")
                    pinned.add(digest)
                    if size:
                        expected[digest] = max(int(size), expected.get(digest, 0))
        return pinned, expected

    def _read_usage(self) -> Room:
        content = _read(f"{self._root}/usage")
        return Room(*_USAGE.unpack(content)) if len(content) == _USAGE.size else total_of(self._scan())

    def _write_usage(self, usage: Room) -> None:
        descriptor = os.open(f"{self._root}/usage", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, _USAGE.pack(*usage), 0)
        finally:
            os.close(descriptor)


def _pin_text(content: bytes) -> str:
    if len(content) < _LENGTH.size:
        return ""
    (length,) = _LENGTH.unpack_from(content)
    return content[_LENGTH.size :][:length].decode()


def _make_directory(path: str, mode: int) -> None:
    try:
        os.mkdir(path)
    except FileExistsError:
        if os.stat(path).st_mode & 0o777 == mode:
            return
    os.chmod(path, mode)


def _lock_file(path: str) -> int:
    """Open and lock the file of this name, made if need be; wait for whoever holds it. Returns the descriptor."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # While we waited, its owner may have renamed or removed it: then this is the lock of nothing.
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _unlink_unless_locked(path: str) -> bool:
    """Remove the file if nobody holds a lock on it, and say whether it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return b""
