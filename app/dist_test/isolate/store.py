"""Where the isolate server keeps its blobs: on a disk, or in an S3 bucket, in the form in which they were sent.

A blob's age is the time since somebody sent it or asked whether it is there, give or take a day: the answer "it is
there" makes an old blob young again. So whoever was told that need not send it, and pruning will not take it away.
"""

import fcntl
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Protocol

from dist_test.errors import BlobNotFound, DigestMismatch, ResultNotFound
from dist_test.isolate.digest import algorithm_of, is_digest
from dist_test.isolate.notice import Notice
from dist_test.isolate.stored_form import Decoder
from dist_test.storage.results import Bucket, ObjectStream

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 2**17
_SPOOLED_BYTES = 2**20
_SPOOL_DIRECTORY = "/var/tmp"  # on a disk: /tmp is memory on newer Debians
_LOOKUPS_AT_ONCE = 16
_PREFIX = "isolate/"
_STALE_SECONDS = 86400  # no upload takes that long
# A younger blob is not renewed: on S3 that is a copy. Longer than an upload ticket is good for, so that what is sent
# never meets an old blob of the same digest.
RENEW_AFTER = timedelta(days=1)


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class StoredBlob:
    """A blob on its way out: `size_bytes` of the stored form in `stream`, which its reader closes."""

    size_bytes: int
    stream: _Stream = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class BlobRecord:
    """What a store says about a blob without reading it. `renewed_at`: when it was sent, or last made young again."""

    namespace: str
    digest: str
    size_bytes: int
    renewed_at: datetime

    def is_older_than(self, age: timedelta) -> bool:
        return _since(self.renewed_at) > age


class BlobStore(Protocol):
    """What the server needs of a store. Namespaces and digests have been checked by the caller.

    renew_after: a younger blob is not renewed when somebody asks for it.
    """

    renew_after: timedelta

    def check(self) -> None:
        """Raise OSError or ResultStoreUnavailable when the store cannot be used."""

    def contains(self, namespace: str, digests: Sequence[str]) -> set[str]:
        """Those of the digests that the store holds. Whoever is told so may rely on it: their age begins anew."""

    def put(self, namespace: str, digest: str, size_bytes: int | None, chunks: Iterable[bytes]) -> None:
        """Keep a blob; it becomes visible only once digest and size have proved right (None: any size).

        Raises DigestMismatch, or whatever reading `chunks` raises; then nothing is kept. A blob that is there already
        is replaced by the same content.
        """

    def open(self, namespace: str, digest: str) -> StoredBlob:
        """The stored form. Raises BlobNotFound."""

    def drop(self, namespace: str, digest: str) -> None:
        """Forget a blob, so that it is uploaded again; none is no error."""

    def records(self) -> Iterator[BlobRecord]:
        """All blobs, in no order; those that come or go meanwhile may be among them or not."""

    def remove_old(self, blobs: Sequence[BlobRecord], age: timedelta) -> list[BlobRecord]:
        """Remove those that are older than `age` still; give them back. For one caller at a time.

        A question does not renew a blob that is younger than `renew_after`: so add that to the age that is meant.
        """


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
    """Blobs as files: ROOT/blobs/NAMESPACE/ab/abcdef…; what is being written is in ROOT/incoming.

    A file's modification time is when it was sent or renewed. ROOT/lock is held shared to make a blob young, alone to
    look at the age of one and remove it: what was promised to somebody is not removed a moment later.
    """

    def __init__(self, root: Path, *, renew_after: timedelta = RENEW_AFTER) -> None:
        """Make the directories, and sweep what a crash left in `incoming`. Raises OSError."""
        self._blobs = root / "blobs"
        self._incoming = root / "incoming"
        self._lock = root / "lock"
        self.renew_after = renew_after
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        # Now, by the server: a file of whoever prunes by hand as root would keep it out.
        self._lock.touch(0o600)
        self._sweep()

    def check(self) -> None:
        with tempfile.TemporaryFile(dir=self._incoming):
            pass

    def contains(self, namespace: str, digests: Sequence[str]) -> set[str]:
        return {digest for digest in digests if self._is_kept(self._path(namespace, digest))}

    def put(self, namespace: str, digest: str, size_bytes: int | None, chunks: Iterable[bytes]) -> None:
        partial = self._incoming / f"{digest}.{secrets.token_hex(8)}"
        try:
            with partial.open("xb") as target:
                _copy_checked(chunks, target, Decoder(namespace, digest, size_bytes))
                target.flush()
                os.fsync(target.fileno())
            with self._locked(fcntl.LOCK_SH):
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

    def records(self) -> Iterator[BlobRecord]:
        for namespace in sorted(path for path in self._blobs.iterdir() if path.is_dir()):
            for directory in sorted(path for path in namespace.iterdir() if path.is_dir()):
                with os.scandir(directory) as entries:
                    for entry in entries:
                        yield from _record(namespace.name, entry)

    def remove_old(self, blobs: Sequence[BlobRecord], age: timedelta) -> list[BlobRecord]:
        return [blob for blob in blobs if self._remove_if_old(self._path(blob.namespace, blob.digest), age)]

    def _is_kept(self, path: Path) -> bool:
        """Whether the blob is there; an old one is young when this says so."""
        try:
            if _age(path) > self.renew_after:
                with self._locked(fcntl.LOCK_SH):
                    os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _remove_if_old(self, path: Path, age: timedelta) -> bool:
        with self._locked(fcntl.LOCK_EX):
            try:
                is_old = _age(path) > age
            except FileNotFoundError:
                return False
            if is_old:
                path.unlink()
            return is_old

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        descriptor = os.open(self._lock, os.O_RDWR)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

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
    """Blobs as objects of a bucket, under isolate/NAMESPACE/.

    S3 deletes an object however young it has become since it was looked at. So whoever removes blobs gives notice of
    them first, and whoever makes one young looks for a notice afterwards: see dist_test.isolate.notice.
    """

    def __init__(self, bucket: Bucket, *, renew_after: timedelta = RENEW_AFTER) -> None:
        self._bucket = bucket
        self._notice = Notice(bucket)
        self.renew_after = renew_after
        # One for all requests: each with one of its own, 64 lookups at a time made a thousand connections.
        self._lookups = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

    def check(self) -> None:
        self._bucket.exists("isolate/")

    def contains(self, namespace: str, digests: Sequence[str]) -> set[str]:
        keys = [_key(namespace, digest) for digest in digests]
        found = self._lookups.map(self._is_kept, keys)
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

    def records(self) -> Iterator[BlobRecord]:
        for stored in self._bucket.list(_PREFIX):
            namespace, slash, digest = stored.key.removeprefix(_PREFIX).partition("/")
            if slash and is_digest(digest, algorithm_of(namespace)):  # or the log of a job whose id is "isolate"
                yield BlobRecord(
                    namespace=namespace, digest=digest, size_bytes=stored.size_bytes, renewed_at=stored.modified_at
                )

    def remove_old(self, blobs: Sequence[BlobRecord], age: timedelta) -> list[BlobRecord]:
        keys = [_key(blob.namespace, blob.digest) for blob in blobs]
        with self._notice.given(keys) as check:
            are_old = self._lookups.map(lambda key: self._is_old(key, age), keys)
            old = [blob for blob, is_old in zip(blobs, are_old, strict=True) if is_old]
            check()
            self._bucket.delete([_key(blob.namespace, blob.digest) for blob in old], once=True)
        return old

    def _is_kept(self, key: str) -> bool:
        """Whether the blob is there; an old one is young when this says so."""
        try:
            stored = self._bucket.stat(key)
            if _since(stored.modified_at) <= self.renew_after:
                return True
            self._bucket.renew(stored)
        except ResultNotFound:
            return False
        # Somebody may have found it old before, and delete it now. Who gives notice of it from here on finds it young.
        self._notice.wait_until_over(key)
        return self._bucket.exists(key)

    def _is_old(self, key: str, age: timedelta) -> bool:
        try:
            return _since(self._bucket.stat(key).modified_at) > age
        except ResultNotFound:
            return False


def _record(namespace: str, entry: "os.DirEntry[str]") -> Iterator[BlobRecord]:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if is_digest(entry.name, algorithm_of(namespace)):
        renewed_at = datetime.fromtimestamp(status.st_mtime, UTC)
        yield BlobRecord(namespace=namespace, digest=entry.name, size_bytes=status.st_size, renewed_at=renewed_at)


def _age(path: Path) -> timedelta:
    return timedelta(seconds=time.time() - path.stat().st_mtime)


def _since(time: datetime) -> timedelta:
    return datetime.now(UTC) - time


def _key(namespace: str, digest: str) -> str:
    return f"{_PREFIX}{namespace}/{digest}"


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
