"""What the blob cache may hold, and what it drops to keep to that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dist_test.settings.records import CacheSettings

_SLACK = 20  # a trim frees a twentieth more than it must, so that a full cache is not scanned for every blob


@dataclass(frozen=True, kw_only=True)
class CacheLimits:
    """What the cache may take: bytes and number of its blobs, and the bytes it must leave free on its disk."""

    max_bytes: int
    min_free_bytes: int
    max_items: int

    @classmethod
    def of(cls, settings: CacheSettings) -> "CacheLimits":
        """The limits that are configured."""
        return cls(max_bytes=settings.max_bytes, min_free_bytes=settings.min_free_bytes, max_items=settings.max_items)


class Entry(NamedTuple):
    """A blob that is there. Sorts by the time of its last use."""

    used_ns: int
    arrived_ns: int
    digest: str
    size_bytes: int


class Room(NamedTuple):
    """Bytes and number of blobs."""

    size_bytes: int
    items: int

    def plus(self, other: "Room") -> "Room":
        return Room(self.size_bytes + other.size_bytes, self.items + other.items)

    def negative(self) -> "Room":
        return Room(-self.size_bytes, -self.items)


def fits(taken: Room, free_bytes: int, limits: CacheLimits) -> bool:
    """Whether a cache that takes so much, on a disk with so much left, keeps to its limits."""
    return (
        taken.size_bytes <= limits.max_bytes and taken.items <= limits.max_items and free_bytes >= limits.min_free_bytes
    )


def choose_victims(
    entries: Sequence[Entry], pinned: set[str], taken: Room, free_bytes: int, limits: CacheLimits
) -> list[Entry] | None:
    """The blobs to drop to keep to the limits, those used longest ago first; None when not even all of them suffice.

    taken: all that is there or expected. free_bytes: what will be free on the disk once that has come.
    """
    victims: list[Entry] = []
    if fits(taken, free_bytes, limits):
        return []
    # Some more than needed, if there is: the next blob should not need a scan of its own.
    roomy = CacheLimits(
        max_bytes=limits.max_bytes - limits.max_bytes // _SLACK,
        max_items=limits.max_items - limits.max_items // _SLACK,
        min_free_bytes=limits.min_free_bytes,
    )
    for entry in sorted(entries):
        if fits(taken, free_bytes, roomy):
            break
        if entry.digest not in pinned:
            victims.append(entry)
            taken = taken.plus(Room(entry.size_bytes, 1).negative())
            free_bytes += entry.size_bytes
    return victims if fits(taken, free_bytes, limits) else None


def total_of(entries: Sequence[Entry]) -> Room:
    """The room that they take."""
    return Room(sum(entry.size_bytes for entry in entries), len(entries))
