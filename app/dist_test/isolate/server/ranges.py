"""Which bytes of a blob a client asks for. PURE."""

import re
from collections.abc import Iterable, Iterator

from werkzeug.exceptions import RequestedRangeNotSatisfiable

_SPAN = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


def wanted(header: str, size_bytes: int) -> range:
    """The bytes that a Range header means, out of `size_bytes` (1 at least).

    Raises RequestedRangeNotSatisfiable: for one that nobody understands too, as the original did.
    """
    match = _SPAN.fullmatch(header)
    if match is None or match.groups() == ("", ""):
        raise RequestedRangeNotSatisfiable(size_bytes, description=f"Range is {header!r:.100}; give one, in bytes")
    first, last = match.groups()
    if first:
        span = range(int(first), min(int(last or size_bytes) + 1, size_bytes))
    else:
        span = range(max(0, size_bytes - int(last)), size_bytes)
    if not span:
        raise RequestedRangeNotSatisfiable(size_bytes, description=f"Range is {header!r}; there are {size_bytes} bytes")
    return span


def cut(chunks: Iterable[bytes], span: range) -> Iterator[bytes]:
    """Those bytes of all that come in chunks."""
    position = 0
    for chunk in chunks:
        piece = chunk[max(0, span.start - position) : max(0, span.stop - position)]
        if piece:
            yield piece
        position += len(chunk)
        if position >= span.stop:
            return
