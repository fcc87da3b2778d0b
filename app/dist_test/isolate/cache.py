"""The cache of blobs that slaves, and laptops, fetch into: shared by threads and processes, bounded, locked.

    ROOT/blobs/ab/abcdef…  content, mode 0444; its access time is when it was last used, its size and time of change
                           are as it arrived. A blob is here only once digest and size have proved right.
    ROOT/incoming/abcdef…  a blob on its way, locked by whoever fetches it
    ROOT/pins/…            a file for each open checkout, locked by its process: what must stay, what is to come
    ROOT/lock, ROOT/usage  the lock over pins and dropping; bytes and number of the blobs

Locks are flock's, so a crash frees them; what it leaves behind is swept when the next cache starts.
"""

import errno
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from dist_test.errors import CacheFull, InvalidIsolated
from dist_test.isolate.cache_files import Blob, CacheFiles, Pin
from dist_test.isolate.cache_limits import CacheLimits
from dist_test.isolate.digest import digest_bytes, is_digest
from dist_test.isolate.format import Isolated, Tree, merge, parse_isolated

__all__ = ["BlobCache", "BlobSource", "CacheLimits", "CachedTree"]

logger = logging.getLogger(__name__)

_FETCHES_AT_ONCE = 8
_REMEMBERED_FILES = 50_000  # about 20 MB
_A = TypeVar("_A")
_T = TypeVar("_T")


class BlobSource(Protocol):
    """What the cache needs of an isolate server's client."""

    def fetch(self, digest: str, destination: Path, *, size_bytes: int | None = None) -> int:
        """Write a blob into the file that is there, checked against digest and size; return its size."""


@dataclass(frozen=True, kw_only=True)
class CachedTree:
    """A tree whose blobs are all in the cache, for as long as its checkout is open.

    isolated: the root document. Blob files are read-only and shared: copy them, never link to them.
    """

    tree: Tree
    isolated: bytes = field(repr=False)
    _blobs: str = field(repr=False)

    def blob_name(self, digest: str) -> str:
        """Where the content of this digest is."""
        return f"{self._blobs}/{digest[:2]}/{digest}"

    def blob_path(self, digest: str) -> Path:
        """As blob_name. A Path costs more than opening the file: for a thousand files, prefer the name."""
        return Path(self.blob_name(digest))


@dataclass(frozen=True, kw_only=True)
class _Resolved:
    """A tree and the blobs that it stands on, documents included."""

    cached: CachedTree
    blobs: tuple[Blob, ...]
    digests: str


class BlobCache:
    """A directory of blobs. Any number of caches in any number of processes may share it, and threads one cache."""

    def __init__(self, root: Path, client: BlobSource, limits: CacheLimits) -> None:
        """Make the directory, sweep what crashes left, and count what is there. Raises OSError."""
        self._files = CacheFiles(root, limits)
        self._client = client
        self._documents: _Remembered[Isolated] = _Remembered(lambda isolated: len(isolated.files))
        self._trees: _Remembered[_Resolved] = _Remembered(lambda resolved: len(resolved.blobs))

    @contextmanager
    def checkout(self, isolated_hash: str) -> Iterator[CachedTree]:
        """Have everything that the tree needs in the cache, and keep it there until the context ends.

        Raises CacheFull, InvalidIsolated, BlobNotFound, DigestMismatch, IsolateServerUnavailable.
        """
        if not is_digest(isolated_hash):
            raise InvalidIsolated(
                f"{isolated_hash!r} is not the hash of an .isolated document: 40 lower-case hex digits"
            )
        resolved = self._trees.get(isolated_hash)
        with self._files.pinned(resolved.digests if resolved else isolated_hash) as pin:
            if resolved is None:
                resolved = self._resolve(isolated_hash, pin)
                pin.hold(resolved.digests)
            self._complete(resolved.blobs, pin)
            yield resolved.cached

    def close(self) -> None:
        """Remove this cache's own traces, once no checkout is open. A crash leaves them to the next start."""
        self._files.close()

    def _resolve(self, isolated_hash: str, pin: Pin) -> _Resolved:
        documents: dict[str, Isolated] = {}
        sizes: dict[str, int] = {}
        wanted = [isolated_hash]
        while wanted:
            # One level of includes after the other, each level in parallel.
            pin.hold(" ".join([*documents, *wanted]))
            for digest, (isolated, size) in zip(wanted, self._read_all(wanted, pin), strict=True):
                documents[digest] = isolated
                sizes[digest] = size
            wanted = list({d: None for isolated in documents.values() for d in isolated.includes if d not in documents})
        resolved = self._resolved(isolated_hash, documents, sizes)
        self._trees.put(isolated_hash, resolved)
        return resolved

    def _resolved(self, root: str, documents: dict[str, Isolated], sizes: dict[str, int]) -> _Resolved:
        tree = merge(root, documents)
        sizes = sizes | {file.digest: file.size_bytes for file in tree.files if file.digest is not None}
        blobs = tuple(Blob(digest, size, self._files.path(digest)) for digest, size in sizes.items())
        isolated = Path(self._files.path(root)).read_bytes()
        cached = CachedTree(tree=tree, isolated=isolated, _blobs=self._files.blobs)
        return _Resolved(cached=cached, blobs=blobs, digests=" ".join(sizes))

    def _read_all(self, digests: Sequence[str], pin: Pin) -> list[tuple[Isolated, int]]:
        return _in_parallel(lambda digest: self._read_document(digest, pin), digests)

    def _read_document(self, digest: str, pin: Pin) -> tuple[Isolated, int]:
        content = self._have_document(digest, pin)
        isolated = self._documents.get(digest)
        if isolated is None:
            isolated = parse_isolated(content)
            self._documents.put(digest, isolated)
        return isolated, len(content)

    def _have_document(self, digest: str, pin: Pin) -> bytes:
        """The content of a blob whose size nobody told."""
        path = Path(self._files.path(digest))
        try:
            content = path.read_bytes()
            if digest_bytes(content) == digest:
                self._files.touch(digest)
                return content
            logger.warning("fetching a damaged document again", extra={"action": "cache_damaged", "digest": digest})
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            logger.debug("fetching document %s", digest)
        self._fetch(digest, None, pin)
        return path.read_bytes()

    def _complete(self, blobs: Sequence[Blob], pin: Pin) -> None:
        missing = self._files.use(blobs)
        if missing:
            self._files.make_room(missing, pin)
            _in_parallel(lambda blob: self._fetch(blob.digest, blob.size_bytes, pin), missing)

    def _fetch(self, digest: str, size_bytes: int | None, pin: Pin) -> None:
        with self._files.incoming(digest, size_bytes) as partial, _full_disk_is_full_cache(partial):
            if partial is None:
                return  # somebody else has fetched it while we waited
            size = self._client.fetch(digest, partial, size_bytes=size_bytes)
            if size_bytes is None:
                self._files.make_room([Blob(digest, size, "")], pin)
            self._files.keep(digest, partial, size)


class _Remembered(Generic[_T]):
    """The values used last, as many as together have no more than 50,000 files."""

    def __init__(self, weigh: Callable[[_T], int]) -> None:
        self._weigh = weigh
        self._values: OrderedDict[str, _T] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> _T | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: str, value: _T) -> None:
        with self._lock:
            if key in self._values:
                self._weight -= self._weigh(self._values.pop(key)) + 1
            self._values[key] = value
            self._weight += self._weigh(value) + 1
            while self._weight > _REMEMBERED_FILES and len(self._values) > 1:
                _, dropped = self._values.popitem(last=False)
                self._weight -= self._weigh(dropped) + 1


def _in_parallel(act: Callable[[_A], _T], items: Sequence[_A]) -> list[_T]:
    """The results in order; the first error stops what has not begun."""
    if len(items) == 1:
        return [act(items[0])]
    with ThreadPoolExecutor(_FETCHES_AT_ONCE, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(act, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _full_disk_is_full_cache(path: Path | None) -> Iterator[None]:
    # Others write to the same disk: the space that was free may be gone by now.
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CacheFull(f"the disk filled up while {path} was being fetched: {exc.strerror}") from exc
