"""A blob that is ready to be uploaded."""

from collections.abc import Iterator
from dataclasses import dataclass

_PIECE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class LocalBlob:
    """A blob and its content, or the name of the file that has it and may have changed since it was hashed."""

    digest: str
    size_bytes: int
    content: bytes | str
    is_isolated: bool = False

    def pieces(self) -> Iterator[bytes]:
        """The content, a piece at a time. Raises OSError."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with open(self.content, "rb", buffering=0) as stream:  # noqa: PTH123 -- a Path for each of 20,000 files is slow
            while piece := stream.read(_PIECE_BYTES):
                yield piece

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return self.content if isinstance(self.content, str) else self.digest
