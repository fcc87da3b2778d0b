"""Where the isolate server keeps its blobs: on a disk, or in an S3 bucket, in the form in which they were sent."""

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from dist_test.errors import BlobNotFound, DigestMismatch, ResultNotFound
from dist_test.isolate.stored_form import Decoder
from dist_test.storage.results import Bucket, ObjectStream

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 2**17
_SPOOLED_BYTES = 2**20
_SPOOL_DIRECTORY = "/var/tmp"  # on a disk: /tmp is memory on newer Debians
_LOOKUPS_AT_ONCE = 16
_STALE_SECONDS = 86400  # no upload takes that long


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class StoredBlob:
    """A blob on its way out: `size_bytes` of the stored form in `stream`, which its reader closes."""

    size_bytes: int
    stream: _Stream = field(repr=False)


class BlobStore(Protocol):
    """What the server needs of a store. Namespaces and digests have been checked by the caller."""

    def check(self) -> None:
        """Raise OSError or ResultStoreUnavailable when the store cannot be used."""

    def contains(self, namespace: str, digests: Sequence[str]) -> set[str]:
        """Those of the digests that the store holds."""

    def put(self, namespace: str, digest: str, size_bytes: int | None, chunks: Iterable[bytes]) -> None:
        """Keep a blob; it becomes visible only once digest and size have proved right (None: any size).

        Raises DigestMismatch, or whatever reading `chunks` raises; then nothing is kept. A blob that is there already
        is replaced by the same content.
        """

    def open(self, namespace: str, digest: str) -> StoredBlob:
        """The stored form. Raises BlobNotFound."""

    def drop(self, namespace: str, digest: str) -> None:
        """Forget a blob, so that it is uploaded again; none is no error."""


def read_verified(store: BlobStore, namespace: str, digest: str, stored: StoredBlob) -> Iterator[bytes]:
    """The stored form in chunks, checked as it goes; the last chunk comes only when all of it was right.

    Raises DigestMismatch when it was not, after dropping the blob, and closes the stream in any case.
    """
    decoder = Decoder(namespace, digest)
    held = b""
    try:
        while chunk := stored.stream.read(_CHUNK_BYTES):
            decoder.check(chunk)
            if held:
                yield held
            held = chunk
        decoder.finish()
        yield held
    except DigestMismatch:
        logger.exception("dropping a damaged blob", extra={"action": "blob_damaged", "digest": digest})
        store.drop(namespace, digest)
        raise
    finally:
        stored.stream.close()


class DiskStore:
    """Blobs as files: ROOT/blobs/NAMESPACE/ab/abcdef…; what is being written is in ROOT/incoming."""

    def __init__(self, root: Path) -> None:
        """Make the directories, and sweep what a crash left in `incoming`. Raises OSError."""
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        self._sweep()

    def check(self) -> None:
        with tempfile.TemporaryFile(dir=self._incoming):
            pass

    def contains(self, namespace: str, digests: Sequence[str]) -> set[str]:
        return {digest for digest in digests if self._path(namespace, digest).is_file()}

    def put(self, namespace: str, digest: str, size_bytes: int | None, chunks: Iterable[bytes]) -> None:
        partial = self._incoming / f"{digest}.{secrets.token_hex(8)}"
        try:
            with partial.open("xb") as target:
                _copy_checked(chunks, target, Decoder(namespace, digest, size_bytes))
                target.flush()
                os.fsync(target.fileno())
            self._publish(partial, self._path(namespace, digest))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def open(self, namespace: str, digest: str) -> StoredBlob:
        try:
            stream = self._path(namespace, digest).open("rb", buffering=0)
        except FileNotFoundError as exc:
            raise BlobNotFound(f"there is no blob {digest} in namespace {namespace}") from exc
        return StoredBlob(size_bytes=os.fstat(stream.fileno()).st_size, stream=stream)

    def drop(self, namespace: str, digest: str) -> None:
        self._path(namespace, digest).unlink(missing_ok=True)

    def _path(self, namespace: str, digest: str) -> Path:
        return self._blobs / namespace / digest[:2] / digest

    def _publish(self, partial: Path, path: Path) -> None:
        try:
            partial.rename(path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            for directory in (self._blobs, path.parent.parent):
                _fsync(directory)
            partial.rename(path)
        _fsync(path.parent)

    def _sweep(self) -> None:
        # By age, not all: another worker process of the same server may be writing right now.
        for path in self._incoming.iterdir():
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)


class S3Store:
    """Blobs as objects of a bucket, under isolate/NAMESPACE/."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        # One for all requests: each with one of its own, 64 lookups at a time made a thousand connections.
        self._lookups = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

    def check(self) -> None:
        self._bucket.exists("isolate/")

    def contains(self, namespace: str, digests: Sequence[str]) -> set[str]:
        keys = [_key(namespace, digest) for digest in digests]
        found = self._lookups.map(self._bucket.exists, keys)
        return {digest for digest, is_there in zip(digests, found, strict=True) if is_there}

    def put(self, namespace: str, digest: str, size_bytes: int | None, chunks: Iterable[bytes]) -> None:
        # Aside first: S3 would show an object whose digest has not been checked.
        with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES, dir=_SPOOL_DIRECTORY) as target:
            _copy_checked(chunks, target, Decoder(namespace, digest, size_bytes))
            length = target.tell()
            target.seek(0)
            self._bucket.upload(_key(namespace, digest), target, length)

    def open(self, namespace: str, digest: str) -> StoredBlob:
        try:
            stream: ObjectStream = self._bucket.open(_key(namespace, digest))
        except ResultNotFound as exc:
            raise BlobNotFound(f"there is no blob {digest} in namespace {namespace}") from exc
        return StoredBlob(size_bytes=stream.size_bytes, stream=stream)

    def drop(self, namespace: str, digest: str) -> None:
        self._bucket.delete([_key(namespace, digest)])


def _key(namespace: str, digest: str) -> str:
    return f"isolate/{namespace}/{digest}"


def _copy_checked(chunks: Iterable[bytes], target: IO[bytes], decoder: Decoder) -> None:
    for chunk in chunks:
        decoder.check(chunk)
        target.write(chunk)
    decoder.finish()


def _fsync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
