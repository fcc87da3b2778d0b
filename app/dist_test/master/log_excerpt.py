"""The part of a log that a page shows: all of it, or its head and its tail."""

from dataclasses import dataclass

from dist_test.master.site import LogStream

HEAD_BYTES = TAIL_BYTES = 2**20
_CHUNK_BYTES = 2**18


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A log's text. `left_out_bytes` were between `head` and `tail`, which is empty when that is 0."""

    head: str
    tail: str
    left_out_bytes: int


def read_excerpt(
    stream: LogStream, size_bytes: int, *, head_bytes: int = HEAD_BYTES, tail_bytes: int = TAIL_BYTES
) -> Excerpt:
    """Read a log and close it. Never more than the head, the tail and one chunk are in memory."""
    try:
        head = stream.read(head_bytes if size_bytes > head_bytes + tail_bytes else head_bytes + tail_bytes)
        tail, seen = b"", 0
        while chunk := stream.read(_CHUNK_BYTES):
            seen += len(chunk)
            tail = (tail + chunk)[-tail_bytes:]
    finally:
        stream.close()
    return Excerpt(head=_text(head), tail=_text(tail), left_out_bytes=seen - len(tail))


def _text(log: bytes) -> str:
    # HTML has no NUL.
    return log.decode(errors="replace").replace("\0", "\ufffd")
