"""What each instance is to us: a slave that takes tasks, one that is asked to leave, one that boots or is lost."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dist_test_autoscale.settings import GroupSettings, PolicySettings, ScaleOutSettings
from dist_test_autoscale.snapshot import GroupSnapshot, InstanceSnapshot, SlaveSnapshot, Snapshot
from dist_test_autoscale.state import DrainKey

CREATING = frozenset({"CREATING", "CREATING_WITHOUT_RETRIES", "RECREATING"})
LEAVING = frozenset({"DELETING", "ABANDONING"})
UNBORN = frozenset({"", "PENDING", "PROVISIONING", "STAGING"})

SlaveKey = tuple[str, str]
"""Host name and instance id: a new machine may bear an old name."""


class Kind(StrEnum):
    """What an instance is to us."""

    UP = "up"  # takes tasks
    PARKED = "parked"  # is asked to take no more, or does not any more
    UNFIT = "unfit"  # alive, but preempted or in quarantine: no capacity
    BOOTING = "booting"  # capacity soon
    FAILED = "failed"  # Compute Engine could not make it
    SILENT = "silent"  # runs, but its slave was not heard of
    LEAVING = "leaving"  # on its way out, or between two lives


@dataclass(frozen=True, kw_only=True)
class Member:
    """An instance of a group, with the slave on it if that has registered."""

    group: str
    instance: InstanceSnapshot
    slave: SlaveSnapshot | None
    kind: Kind

    @property
    def name(self) -> str:
        return self.instance.name

    @property
    def key(self) -> DrainKey:
        return (self.instance.name, self.instance.id)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """All members in order of group and name, and the slaves that belong to no group.

    `pending` are instances that a group's target promises and its listing does not have yet, by group.
    """

    members: tuple[Member, ...]
    bare: tuple[SlaveSnapshot, ...]
    pending: Mapping[str, int]
    usable: Mapping[str, GroupSnapshot]

    def of_kind(self, *kinds: Kind, usable_only: bool = False) -> list[Member]:
        """The members of these kinds; only those that we may act on if so asked."""
        return [
            member
            for member in self.members
            if member.kind in kinds and (not usable_only or member.group in self.usable)
        ]

    def slaves(self) -> list[SlaveSnapshot]:
        """The slaves that take tasks, of groups or not."""
        return [*self.bare, *(member.slave for member in self.of_kind(Kind.UP) if member.slave is not None)]

    def booting(self) -> int:
        """How many instances will be slaves soon."""
        return len(self.of_kind(Kind.BOOTING)) + sum(self.pending.values())

    def live_slots(self) -> int:
        """The slots of the slaves that take tasks."""
        return sum(slave.slots for slave in self.slaves())

    def idle_slots(self) -> int:
        """Their slots in which nothing runs."""
        return sum(max(0, slave.slots - slave.busy) for slave in self.slaves())

    def busy_elsewhere(self) -> int:
        """Tasks on slaves that take no more of them: that work needs no slave of ours."""
        return sum(member.slave.busy for member in self.of_kind(Kind.PARKED, Kind.UNFIT) if member.slave is not None)

    def capacity_slots(self, slots_per_slave: int) -> int:
        """The slots there are or soon will be."""
        return self.live_slots() + self.booting() * slots_per_slave

    def fresh_count(self) -> int:
        """How many slaves were heard of lately."""
        return len(self.bare) + len(self.of_kind(Kind.UP, Kind.PARKED, Kind.UNFIT))

    def silent_slaves(self) -> list[Member]:
        """Members whose slave registered and then fell silent."""
        return [member for member in self.of_kind(Kind.SILENT) if member.slave is not None]

    def looks_stale(self) -> bool:
        """Whether half of the slaves or more seem silent: then rather the table is old than the slaves are dead."""
        silent = len(self.silent_slaves())
        return silent > 0 and silent >= self.fresh_count()


def classify(policy: PolicySettings, snapshot: Snapshot) -> Fleet:
    """Tell what each instance is. The snapshot's slaves must have been read."""
    slaves = {(slave.name, slave.instance_id): slave for slave in snapshot.slaves or ()}
    groups = sorted(snapshot.groups, key=lambda group: group.name)
    members = [member for group in groups for member in _members(policy, snapshot, group, slaves)]
    listed = {member.name for member in members}
    return Fleet(
        members=tuple(members),
        bare=tuple(_bare(policy, snapshot, slaves.values(), listed)),
        pending={group.name: max(0, group.target - len(group.instances)) for group in groups},
        usable={group.name: group for group in groups if _is_usable(policy.group(group.name), group)},
    )


def _is_usable(settings: GroupSettings | None, group: GroupSnapshot) -> bool:
    return settings is not None and group.ok and not group.autoscaler


def _members(
    policy: PolicySettings, snapshot: Snapshot, group: GroupSnapshot, slaves: Mapping[SlaveKey, SlaveSnapshot]
) -> Iterator[Member]:
    for instance in sorted(group.instances, key=lambda instance: (instance.name, instance.id)):
        slave = slaves.get((instance.name, instance.id))
        kind = _kind(policy, snapshot, instance, slave)
        yield Member(group=group.name, instance=instance, slave=slave, kind=kind)


def _kind(policy: PolicySettings, snapshot: Snapshot, instance: InstanceSnapshot, slave: SlaveSnapshot | None) -> Kind:
    if instance.action in LEAVING:
        return Kind.LEAVING
    fresh = slave is not None and is_fresh(slave, snapshot.now, policy.stale_s)
    if slave is not None and instance.status == "RUNNING":
        return _kind_of_slave(slave) if fresh else _kind_of_silent(slave)
    kind = _kind_without_slave(instance, snapshot.now - instance.first_seen, policy.scale_out)
    # A listing may be older than the slave; what has a slave at work was made after all.
    is_alive = slave is not None and (fresh or slave.lease_held)
    return Kind.BOOTING if is_alive and kind is Kind.FAILED else kind


def _kind_of_slave(slave: SlaveSnapshot) -> Kind:
    if slave.state in ("preempted", "quarantined"):
        return Kind.UNFIT
    return Kind.UP if slave.state == "up" and slave.want == "run" else Kind.PARKED


def _kind_of_silent(slave: SlaveSnapshot) -> Kind:
    return Kind.LEAVING if slave.state == "preempted" else Kind.SILENT


def _kind_without_slave(instance: InstanceSnapshot, age_s: float, scale_out: ScaleOutSettings) -> Kind:
    is_being_made = instance.action in CREATING or instance.status in UNBORN
    is_late = age_s >= scale_out.boot_timeout_s
    if is_being_made:
        # Compute Engine tries again by itself for a moment; later it would succeed when nobody needs it.
        is_refused = bool(instance.errors) and age_s >= scale_out.failed_after_s
        return Kind.FAILED if is_late or is_refused else Kind.BOOTING
    if instance.status != "RUNNING":
        return Kind.LEAVING  # stopped or preempted: the group makes a new machine of the same name
    return Kind.SILENT if is_late else Kind.BOOTING


def is_fresh(slave: SlaveSnapshot, now: float, stale_s: float) -> bool:
    """Whether the slave was heard of lately."""
    return now - slave.heartbeat <= stale_s


def _bare(
    policy: PolicySettings, snapshot: Snapshot, slaves: Iterable[SlaveSnapshot], listed: set[str]
) -> Iterator[SlaveSnapshot]:
    """Slaves that take tasks and are no instances. The row of an instance's former life bears a listed name."""
    for slave in sorted(slaves, key=lambda slave: (slave.name, slave.instance_id)):
        is_elsewhere = slave.name not in listed and is_fresh(slave, snapshot.now, policy.stale_s)
        if is_elsewhere and _kind_of_slave(slave) is Kind.UP:
            yield slave


def whole_slaves(slots: float, slots_per_slave: int) -> int:
    """How many slaves have at least these slots; the smallest bit more is arithmetic, not work."""
    return max(0, math.ceil(slots / slots_per_slave - 1e-9))
