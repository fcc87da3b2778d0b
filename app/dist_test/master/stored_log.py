"""A log in the bucket, read by pieces: from its end upwards, or line by line in search of something."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dist_test.master.site import LogStream, ResultStore

PIECE_BYTES = 64 * 2**10  # what people read at once
CHUNK_BYTES = 2**20
MAX_MATCHES = 200
MAX_MATCH_BYTES = 500  # of a line that is shown as a match
SEARCH_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Bytes `start` to `end` of a log; `start` is that of a line, unless the line is longer than a piece."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)


@dataclass(frozen=True, kw_only=True)
class Match:
    """A line in which something was found, or what is around it in a long one. `offset` is where the line begins."""

    number: int
    offset: int
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Matches:
    """What a search found. `is_whole`: False when it stopped before the end of the log."""

    lines: tuple[Match, ...]
    read_bytes: int
    is_whole: bool


def read_piece(results: ResultStore, key: str, *, end: int, size_bytes: int = PIECE_BYTES) -> Piece:
    """The piece before byte `end`, in whole lines. Raises ResultNotFound, ResultStoreUnavailable."""
    start = max(0, end - size_bytes)
    data = results.read_range(key, start=start, size_bytes=end - start) if end else b""
    cut = data.find(b"\n", 0, -1) + 1 if start else 0
    return Piece(start=start + cut, data=data[cut:])


def chunks(stream: LogStream) -> Iterator[bytes]:
    """The rest of a stream, which is closed after it."""
    try:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk
    finally:
        stream.close()


def search(content: Iterable[bytes], wanted: str, *, clock: Callable[[], float] = time.monotonic) -> Matches:
    """The first lines with `wanted` in them, whatever the case of its ASCII letters.

    Stops after MAX_MATCHES lines, or SEARCH_SECONDS. A match that a chunk's end cuts in a line of more than
    CHUNK_BYTES is not found.
    """
    give_up_at = clock() + SEARCH_SECONDS
    scan = _Scan(wanted.encode(errors="replace").lower())
    rest = b""
    for chunk in content:
        rest = scan.feed(rest + chunk)
        if len(scan.found) >= MAX_MATCHES or clock() > give_up_at:
            return scan.matches(is_whole=False)
    scan.take(rest)
    return scan.matches(is_whole=len(scan.found) < MAX_MATCHES)


class _Scan:
    """Where a search stands: at the line `_number`, which begins `_offset` bytes from the log's begin."""

    def __init__(self, wanted: bytes) -> None:
        self._wanted = wanted
        self._number = 1
        self._offset = 0
        self.found: list[Match] = []

    def matches(self, *, is_whole: bool) -> Matches:
        return Matches(lines=tuple(self.found[:MAX_MATCHES]), read_bytes=self._offset, is_whole=is_whole)

    def feed(self, data: bytes) -> bytes:
        """Take the whole lines; give back the begin of the last one."""
        cut = data.rfind(b"\n") + 1
        if cut == 0 and len(data) >= CHUNK_BYTES:
            cut = len(data)
        self.take(data[:cut])
        return data[cut:]

    def take(self, data: bytes) -> None:
        """Look through bytes that begin with a line."""
        lowered, counted, at = data.lower(), 0, 0
        while len(self.found) < MAX_MATCHES and (hit := lowered.find(self._wanted, at)) >= 0:
            begin = data.rfind(b"\n", 0, hit) + 1
            end = data.find(b"\n", hit)
            at = len(data) if end < 0 else end + 1
            self._number += data.count(b"\n", counted, begin)
            counted = begin
            shown = max(begin, hit - MAX_MATCH_BYTES // 2)
            line = data[shown : min(at, shown + MAX_MATCH_BYTES)].rstrip(b"\r\n")
            self.found.append(Match(number=self._number, offset=self._offset + begin, data=line))
        self._number += data.count(b"\n", counted)
        self._offset += len(data)
