"""What only watching tells of instances: since when each is there, and how long they take to become slaves."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from dist_test_autoscale.documents import Node
from dist_test_autoscale.fleet import CREATING, UNBORN
from dist_test_autoscale.groups import GroupReading, ListedInstance
from dist_test_autoscale.snapshot import InstanceSnapshot, SlaveSnapshot

WEIGHT = 0.3  # of the newest boot in the mean
SHORTEST_BOOT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class _Sighting:
    """An instance since `at`. `is_timed`: it was seen before it ran, and is not a slave yet: its boot can be timed."""

    group: str
    id: str
    at: float
    is_timed: bool


class Sightings:
    """Remembers the instances of the listings. Times are the database's, in seconds."""

    def __init__(self, *, boot_s: float, longest_boot_s: float) -> None:
        """boot_s: what a boot is taken to last until the first was seen. longest_boot_s: what takes longer is none."""
        self.boot_s = boot_s
        self._longest_boot_s = longest_boot_s
        self._seen: dict[tuple[str, str], _Sighting] = {}

    def note(self, reading: GroupReading, now: float) -> tuple[InstanceSnapshot, ...]:
        """The instances of a listing, each with the time since when it is there; those that are gone are forgotten."""
        found = {(reading.name, one.name): self._sighting(reading.name, one, now) for one in reading.instances}
        self._seen = {key: seen for key, seen in self._seen.items() if seen.group != reading.name} | found
        return tuple(_snapshot(one, found[reading.name, one.name].at) for one in reading.instances)

    def time_boots(self, slaves: Iterable[SlaveSnapshot]) -> list[float]:
        """Learn from slaves that have registered; give the seconds that each of them took."""
        by_key = {(slave.name, slave.instance_id): slave for slave in slaves}
        booted = []
        for key, seen in self._seen.items():
            slave = by_key.get((key[1], seen.id))
            if seen.is_timed and seen.id and slave is not None:
                self._seen[key] = replace(seen, is_timed=False)
                booted.append(slave.started - seen.at)
        timed = [max(SHORTEST_BOOT_S, boot_s) for boot_s in booted if 0 <= boot_s <= self._longest_boot_s]
        for boot_s in timed:
            self.boot_s += WEIGHT * (boot_s - self.boot_s)
        return timed

    def to_document(self) -> dict[str, Any]:
        """All of it as JSON."""
        seen = [[seen.group, name, seen.id, seen.at, seen.is_timed] for (_, name), seen in sorted(self._seen.items())]
        return {"boot_s": self.boot_s, "seen": seen}

    def load(self, node: Node) -> None:
        """Go on from what another has remembered. Raises InvalidSnapshot."""
        table = node.table(needed=("boot_s", "seen"))
        self._seen = dict(_entry(entry) for entry in table["seen"].items())
        self.boot_s = table["boot_s"].seconds()

    def _sighting(self, group: str, one: ListedInstance, now: float) -> _Sighting:
        known = self._seen.get((group, one.name))
        # The id comes when the machine does. Another one is another machine: the group has made it anew.
        if known is None or known.id not in ("", one.id):
            is_unborn = one.action in CREATING or one.status in UNBORN
            return _Sighting(group=group, id=one.id, at=now, is_timed=is_unborn)
        return replace(known, id=one.id)


def _snapshot(one: ListedInstance, first_seen: float) -> InstanceSnapshot:
    return InstanceSnapshot(
        name=one.name,
        id=one.id,
        action=one.action,
        status=one.status,
        first_seen=first_seen,
        errors=one.errors,
        old_template=one.old_template,
    )


def _entry(node: Node) -> tuple[tuple[str, str], _Sighting]:
    parts = node.items()
    if len(parts) != 5:
        raise node.refuse("give group, name, id, time and whether its boot is timed")
    group, name, instance_id, at, is_timed = parts
    sighting = _Sighting(group=group.text(), id=instance_id.text(), at=at.number(), is_timed=is_timed.boolean())
    return (sighting.group, name.text()), sighting
