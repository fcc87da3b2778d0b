"""The part of a log that the original's page shows: all of it, or its head and its tail."""

from dataclasses import dataclass

from dist_test.master.site import ResultStore

HEAD_BYTES = TAIL_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A log's text. `left_out_bytes` were between `head` and `tail`, which is empty when that is 0."""

    head: str
    tail: str
    left_out_bytes: int


def read_excerpt(results: ResultStore, key: str, size_bytes: int) -> Excerpt:
    """Read no more of a log than is shown. Raises ResultNotFound, ResultStoreUnavailable."""
    if size_bytes <= HEAD_BYTES + TAIL_BYTES:
        whole = results.read_range(key, start=0, size_bytes=size_bytes) if size_bytes else b""
        return Excerpt(head=_text(whole), tail="", left_out_bytes=0)
    head = results.read_range(key, start=0, size_bytes=HEAD_BYTES)
    tail = results.read_range(key, start=size_bytes - TAIL_BYTES, size_bytes=TAIL_BYTES)
    return Excerpt(head=_text(head), tail=_text(tail), left_out_bytes=size_bytes - HEAD_BYTES - TAIL_BYTES)


def _text(log: bytes) -> str:
    # HTML has no NUL.
    return log.decode(errors="replace").replace("\0", "\ufffd")
