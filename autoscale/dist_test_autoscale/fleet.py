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
    TAKEN = "taken"  # a slave of its name is alive, which is not known to be on this machine: left alone
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
    """All members in order of group and name, and the slaves that belong to no group or do not say to which machine.

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


@dataclass(frozen=True, kw_only=True)
class _Roll:
    """The slaves: `by_key` those that say which machine they are on, `fresh` those heard of lately.

    The rest are names: of fresh slaves, of those of them that do not say on which machine they are, and of all that are
    heard of or hold a lease.
    """

    by_key: Mapping[SlaveKey, SlaveSnapshot]
    fresh: tuple[SlaveSnapshot, ...]
    heard: frozenset[str]
    unnamed: frozenset[str]
    living: frozenset[str]


def _roll(policy: PolicySettings, snapshot: Snapshot) -> _Roll:
    slaves = sorted(snapshot.slaves or (), key=lambda slave: (slave.name, slave.instance_id))
    fresh = tuple(slave for slave in slaves if is_fresh(slave, snapshot.now, policy.stale_s))
    return _Roll(
        by_key={(slave.name, slave.instance_id): slave for slave in slaves if slave.instance_id},
        fresh=fresh,
        heard=frozenset(slave.name for slave in fresh),
        unnamed=frozenset(slave.name for slave in fresh if not slave.instance_id),
        living=frozenset(slave.name for slave in fresh) | {slave.name for slave in slaves if slave.lease_held},
    )


def classify(policy: PolicySettings, snapshot: Snapshot) -> Fleet:
    """Tell what each instance is. The snapshot's slaves must have been read."""
    groups = sorted(snapshot.groups, key=lambda group: group.name)
    roll = _roll(policy, snapshot)
    members = [member for group in groups for member in _members(policy, snapshot, group, roll)]
    return Fleet(
        members=tuple(members),
        bare=tuple(_bare(roll, [member.instance for member in members])),
        pending={group.name: max(0, group.target - len(group.instances)) for group in groups},
        usable={group.name: group for group in groups if _is_usable(policy.group(group.name), group)},
    )


def _is_usable(settings: GroupSettings | None, group: GroupSnapshot) -> bool:
    return settings is not None and group.ok and not group.autoscaler


def _members(policy: PolicySettings, snapshot: Snapshot, group: GroupSnapshot, roll: _Roll) -> Iterator[Member]:
    for instance in sorted(group.instances, key=lambda instance: (instance.name, instance.id)):
        slave = roll.by_key.get((instance.name, instance.id))
        kind = _kind(policy, snapshot, instance, slave, roll)
        yield Member(group=group.name, instance=instance, slave=slave, kind=kind)


def _kind(
    policy: PolicySettings,
    snapshot: Snapshot,
    instance: InstanceSnapshot,
    slave: SlaveSnapshot | None,
    roll: _Roll,
) -> Kind:
    if instance.action in LEAVING:
        return Kind.LEAVING
    if slave is not None and instance.status == "RUNNING":
        is_heard = is_fresh(slave, snapshot.now, policy.stale_s)
        return _kind_of_slave(slave) if is_heard else _kind_of_silent(slave)
    kind = _kind_without_slave(instance, snapshot.now - instance.first_seen, policy.scale_out)
    if slave is None and _is_unsure(instance, roll):
        return Kind.TAKEN
    # A listing may be older than a slave, and a row older than a machine: nothing is given up while its name is heard
    # of or at work.
    spared = {Kind.FAILED: Kind.BOOTING, Kind.SILENT: Kind.TAKEN}
    return spared.get(kind, kind) if instance.name in roll.living else kind


def _is_unsure(instance: InstanceSnapshot, roll: _Roll) -> bool:
    """Whether a slave is heard of that may be on this machine, and one of the two lacks the id that would tell."""
    return instance.status == "RUNNING" and instance.name in (roll.unnamed if instance.id else roll.heard)


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


def _bare(roll: _Roll, instances: Iterable[InstanceSnapshot]) -> Iterator[SlaveSnapshot]:
    """Slaves that take tasks and are no known instances. The row of an instance's former life bears a listed name."""
    identified = {instance.name for instance in instances if instance.id or instance.status != "RUNNING"}
    for slave in roll.fresh:
        is_elsewhere = slave.name not in identified or not slave.instance_id
        if is_elsewhere and _kind_of_slave(slave) is Kind.UP:
            yield slave


def whole_slaves(slots: float, slots_per_slave: int) -> int:
    """How many slaves have at least these slots; the smallest bit more is arithmetic, not work."""
    return max(0, math.ceil(slots / slots_per_slave - 1e-9))
