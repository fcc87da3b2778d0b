"""A blob that is ready to be uploaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PIECE_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class LocalBlob:
    """A blob and where its content is: in memory or in a file, which may have changed since it was hashed."""

    digest: str
    size_bytes: int
    content: bytes | Path
    is_isolated: bool = False

    def pieces(self) -> Iterator[bytes]:
        """The content, a piece at a time. Raises OSError."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb", buffering=0) as stream:
            while piece := stream.read(_PIECE_BYTES):
                yield piece

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return str(self.content) if isinstance(self.content, Path) else self.digest
