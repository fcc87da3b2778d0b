"""A zip of artifacts in the bucket: its directory and single members, read by ranges and not as a whole."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from dist_test.errors import UnsafeArchive, shortened
from dist_test.master.site import ResultStore

MAX_DIRECTORY_BYTES = 8 * 2**20  # some 80,000 members
MAX_MEMBER_BYTES = 2**30  # slaves keep 200 MiB of artifacts unless told otherwise
_BUFFER_BYTES = 256 * 2**10
_CHUNK_BYTES = 256 * 2**10
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA takes as much memory as a member asks for


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in an archive. `number` is its place in the directory, which also tells names apart that are the same."""

    number: int
    name: str
    size_bytes: int
    packed_bytes: int


class RangedFile(io.RawIOBase):
    """An object of the bucket as a file that can be read and sought, of which at most `budget_bytes` are read."""

    def __init__(self, results: ResultStore, key: str, size_bytes: int, *, budget_bytes: int) -> None:
        self._results = results
        self._key = key
        self._size_bytes = size_bytes
        self._left_bytes = budget_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        if base + offset < 0:
            raise OSError("before the begin of the archive")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """As io has it: fill a buffer that can be written to; 0 bytes at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._size_bytes - self._at)
        if wanted <= 0:
            return 0
        if wanted > self._left_bytes:
            raise UnsafeArchive("its directory is too large to be read here; download all of it")
        data = self._results.read_range(self._key, start=self._at, size_bytes=wanted)
        view[: len(data)] = data
        self._left_bytes -= len(data)
        self._at += len(data)
        return len(data)


def list_members(results: ResultStore, key: str, size_bytes: int) -> list[Member]:
    """The files in an archive, in its own order. Raises UnsafeArchive, ResultNotFound, ResultStoreUnavailable."""
    with _opened(results, key, size_bytes, budget_bytes=MAX_DIRECTORY_BYTES) as archive:
        return [
            Member(number=number, name=info.filename, size_bytes=info.file_size, packed_bytes=info.compress_size)
            for number, info in enumerate(archive.infolist())
            if not _is_directory(info)
        ]


@contextmanager
def opened_member(results: ResultStore, key: str, size_bytes: int, number: int) -> Iterator[tuple[Member, IO[bytes]]]:
    """A member and its content, which ends at the size that the directory has for it.

    Raises UnsafeArchive, also for a number that is not there, ResultNotFound, ResultStoreUnavailable.
    """
    budget = MAX_DIRECTORY_BYTES + size_bytes + _BUFFER_BYTES
    with _opened(results, key, size_bytes, budget_bytes=budget) as archive:
        infos = archive.infolist()
        if number >= len(infos) or _is_directory(infos[number]):
            raise UnsafeArchive(f"it has no file number {number}")
        info = infos[number]
        if info.compress_type not in _METHODS:
            raise UnsafeArchive(
                f"file number {number} is packed by another method than slaves use; download the whole archive"
            )
        if info.file_size > MAX_MEMBER_BYTES:
            raise UnsafeArchive(f"file number {number} has {info.file_size} bytes; download the whole archive")
        member = Member(number=number, name=info.filename, size_bytes=info.file_size, packed_bytes=info.compress_size)
        with _translated(), archive.open(info) as content:
            yield member, content


def chunks(content: IO[bytes]) -> Iterator[bytes]:
    """The content by bounded chunks, however well it was packed. Raises UnsafeArchive."""
    with _translated():
        while chunk := content.read(_CHUNK_BYTES):
            yield chunk


def _is_directory(info: zipfile.ZipInfo) -> bool:
    # Not info.is_dir(): Python 3.11's does not know that a name can be empty.
    return info.filename.endswith("/")


@contextmanager
def _opened(results: ResultStore, key: str, size_bytes: int, *, budget_bytes: int) -> Iterator[zipfile.ZipFile]:
    raw = RangedFile(results, key, size_bytes, budget_bytes=budget_bytes)
    with io.BufferedReader(raw, _BUFFER_BYTES) as file:
        with _translated():
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive


@contextmanager
def _translated() -> Iterator[None]:
    # RuntimeError: it is encrypted. ValueError, OSError: offsets that lead nowhere.
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, OSError, EOFError) as exc:
        raise UnsafeArchive(f"it is damaged: {shortened(str(exc))}") from exc
