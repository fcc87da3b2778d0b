"""How a log beyond its limit is stored: its beginning, a line that says what is missing, its end. PURE."""

from dataclasses import dataclass

CUT_LINE = "\n------ dist_test left out {dropped} bytes here: more than {limit} bytes of output ------\n"
_SHORTEST_LINE_BYTES = len(CUT_LINE.format(dropped=0, limit=0))
_LINE_LENGTHS = range(_SHORTEST_LINE_BYTES, _SHORTEST_LINE_BYTES + 2 * len(str(2**64)))


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Of a stored log: `head_bytes`, then a line of `line_bytes` in the place of `dropped_bytes`, then `tail_bytes`."""

    head_bytes: int
    line_bytes: int
    dropped_bytes: int
    tail_bytes: int


def find_cut(*, stored_bytes: int, written_bytes: int) -> Cut | None:
    """Where the log of a command that wrote `written_bytes` was cut; None when it was not.

    A cut that is no longer than its line, 100 bytes say, cannot be told from no cut: None as well.
    """
    if written_bytes <= stored_bytes:
        return None
    for line_bytes in _LINE_LENGTHS:
        limit = stored_bytes - line_bytes
        dropped = written_bytes - limit
        if limit >= 0 and len(cut_line(dropped, limit)) == line_bytes:
            head = limit // 2
            return Cut(head_bytes=head, line_bytes=line_bytes, dropped_bytes=dropped, tail_bytes=limit - head)
    return None


def cut_line(dropped_bytes: int, limit_bytes: int) -> bytes:
    """What stands in the place of the bytes that are missing."""
    return CUT_LINE.format(dropped=dropped_bytes, limit=limit_bytes).encode()
