"""How a blob's content is stored and sent: as it is, or compressed, as the namespace says."""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator

from dist_test.errors import DigestMismatch, IsolateError, shown
from dist_test.isolate.digest import algorithm_of

_NAMESPACE = re.compile(r"[a-zA-Z0-9._-]+")
# isolate.md 1: "gzip" and "deflate" both mean zlib, RFC 1950
_COMPRESSED = ("-gzip", "-deflate")
_LONGEST_NAMESPACE = 200  # it is the name of a directory, which may have 255 bytes
_PIECE_BYTES = 2**20
_PROBE_BYTES = 2**16
_FAST = 1  # higher levels cost seconds of the developer's time and save few bytes on binaries


def check_served_namespace(namespace: object) -> str:
    """Return a namespace that our server keeps blobs for, or raise IsolateError."""
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace) or set(namespace) == {"."}:
        raise IsolateError(f"namespace is {shown(namespace)}; use letters, digits, '-', '.' and '_'")
    if len(namespace) > _LONGEST_NAMESPACE:
        raise IsolateError(f"namespace has {len(namespace)} characters; at most {_LONGEST_NAMESPACE} are allowed")
    return namespace


def check_namespace(namespace: object) -> str:
    """Return a namespace that our own client can use, which knows SHA-1 only, or raise IsolateError."""
    checked = check_served_namespace(namespace)
    if algorithm_of(checked) != "sha1":
        raise IsolateError(f"namespace is {shown(checked)}; its digests are not SHA-1; use one such as 'default-gzip'")
    return checked


def is_compressed(namespace: str) -> bool:
    """Whether blobs of this namespace are stored and sent as zlib streams."""
    return namespace.endswith(_COMPRESSED)


def encode(namespace: str, content: Iterable[bytes]) -> Iterator[bytes]:
    """The stored form of this content, piece by piece. What does not shrink is stored uncompressed inside zlib."""
    if not is_compressed(namespace):
        yield from content
        return
    compressor = None
    for piece in content:
        if compressor is None:
            compressor = zlib.compressobj(_level(piece))
        yield compressor.compress(piece)
    yield (compressor or zlib.compressobj(_FAST)).flush()


def _level(piece: bytes) -> int:
    probe = piece[:_PROBE_BYTES]
    return _FAST if len(zlib.compress(probe, _FAST)) < 0.95 * len(probe) else 0


class Decoder:
    """Turns a stored form back into content, and checks digest and size on the way.

    `size_bytes` is None when nobody said what it is; then `limit_bytes` (None: no limit) bounds it. Every method
    raises DigestMismatch as soon as the content cannot be what was announced, so a small stored form that unpacks to
    a huge content is stopped early.
    """

    def __init__(
        self, namespace: str, digest: str, size_bytes: int | None = None, *, limit_bytes: int | None = None
    ) -> None:
        self._digest = digest
        self._size_bytes = size_bytes
        self._limit_bytes = limit_bytes if size_bytes is None else size_bytes
        self._hash = hashlib.new(algorithm_of(namespace), usedforsecurity=False)
        self._seen_bytes = 0
        self._inflater = zlib.decompressobj() if is_compressed(namespace) else None

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The content in this chunk of the stored form, in pieces of at most 1 MiB (raw namespaces: as it comes)."""
        if self._inflater is None:
            yield self._seen(chunk)
            return
        piece = b""
        # zlib may hold back content although it has taken all of the chunk: a full piece means "ask again".
        while chunk or len(piece) == _PIECE_BYTES:
            piece = self._inflate(chunk)
            if piece:
                yield self._seen(piece)
            chunk = self._inflater.unconsumed_tail

    def finish(self) -> int:
        """Check that the content is complete and right; return its size in bytes."""
        if self._inflater is not None and not self._inflater.eof:
            raise DigestMismatch(f"blob {self._digest} is cut short after {self._seen_bytes} bytes of content")
        if self._size_bytes is not None and self._seen_bytes != self._size_bytes:
            raise DigestMismatch(f"blob {self._digest} has {self._seen_bytes} bytes instead of {self._size_bytes}")
        if self._hash.hexdigest() != self._digest:
            raise DigestMismatch(f"blob {self._digest} has the digest {self._hash.hexdigest()} instead")
        return self._seen_bytes

    def check(self, chunk: bytes) -> None:
        """As feed, for callers that do not want the content."""
        for _ in self.feed(chunk):
            pass

    def _inflate(self, chunk: bytes) -> bytes:
        assert self._inflater is not None
        if self._inflater.eof and chunk:
            raise DigestMismatch(f"blob {self._digest} has data after its compressed content")
        try:
            piece = self._inflater.decompress(chunk, _PIECE_BYTES)
        except zlib.error as exc:
            raise DigestMismatch(f"blob {self._digest} is not a zlib stream: {exc}") from exc
        if self._inflater.unused_data:
            raise DigestMismatch(f"blob {self._digest} has data after its compressed content")
        return piece

    def _seen(self, piece: bytes) -> bytes:
        self._seen_bytes += len(piece)
        if self._limit_bytes is not None and self._seen_bytes > self._limit_bytes:
            raise DigestMismatch(f"blob {self._digest} has more than {self._limit_bytes} bytes")
        self._hash.update(piece)
        return piece
