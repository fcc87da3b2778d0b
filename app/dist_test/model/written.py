"""What a command that runs has written so far. PURE."""

from dataclasses import dataclass

TAIL_BYTES = 2**16  # of each stream: hundreds of lines, and little enough to be passed on twice a second


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a command has written to one stream: how much, and the end of it, TAIL_BYTES at most."""

    total_bytes: int
    tail: bytes

    @property
    def tail_begins(self) -> int:
        """How many bytes came before the tail."""
        return self.total_bytes - len(self.tail)


NOTHING_WRITTEN = Written(total_bytes=0, tail=b"")
