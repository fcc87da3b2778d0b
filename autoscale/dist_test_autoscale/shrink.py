"""Give slaves back: which are drained, which drains are taken back, which drained slaves may go."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from dist_test_autoscale.decision import Cause
from dist_test_autoscale.fleet import Fleet, Kind, Member
from dist_test_autoscale.settings import PolicySettings
from dist_test_autoscale.snapshot import SlaveSnapshot
from dist_test_autoscale.state import DrainKey, State, spent


@dataclass(frozen=True, kw_only=True)
class Parked:
    """A slave that was asked to take no more tasks, and since when we know it."""

    member: Member
    slave: SlaveSnapshot
    since: float

    @property
    def key(self) -> DrainKey:
        return self.member.key

    @property
    def is_busy(self) -> bool:
        return self.slave.busy > 0 or self.slave.lease_held

    @property
    def may_go(self) -> bool:
        """Whether it has acknowledged that it takes no more, and has nothing left."""
        return self.slave.state == "drained" and not self.is_busy


def parked_members(fleet: Fleet, known: Mapping[DrainKey, float], now: float) -> list[Parked]:
    """All of them that we may act on. `known` tells of those seen before."""
    return [
        Parked(member=member, slave=member.slave, since=known.get(member.key, now))
        for member in fleet.of_kind(Kind.PARKED, usable_only=True)
        if member.slave is not None
    ]


def undrains(policy: PolicySettings, parked: Iterable[Parked], *, slots: int, now: float) -> list[tuple[Member, Cause]]:
    """Drains to take back: for `slots` that are needed, and those of slaves that never answered."""
    # A slave marked for deletion may be gone already.
    open_drains = sorted((one for one in parked if one.slave.want != "delete"), key=_order_of_return)
    chosen: list[tuple[Member, Cause]] = []
    for one in open_drains:
        if slots > 0:
            chosen.append((one.member, Cause.WORK))
            slots -= one.slave.slots
        elif _is_unanswered(policy, one, now):
            chosen.append((one.member, Cause.NO_ANSWER))
    return chosen


def _order_of_return(parked: Parked) -> tuple[bool, str, str]:
    return (parked.member.instance.old_template, parked.member.group, parked.member.name)


def _is_unanswered(policy: PolicySettings, parked: Parked, now: float) -> bool:
    waited_s = now - parked.since
    return parked.slave.state != "drained" and not parked.is_busy and waited_s > policy.scale_in.drain_ack_timeout_s


def departures(parked: Iterable[Parked], undrained: Set[DrainKey]) -> list[tuple[Member, Cause]]:
    """Drained slaves to delete."""
    return [(one.member, Cause.DRAINED) for one in parked if one.may_go and one.key not in undrained]


def victims(
    policy: PolicySettings, fleet: Fleet, state: State, *, surplus_slots: int, grace_s: float, now: float
) -> list[Member]:
    """Idle slaves to drain, the least useful first, as many as surplus, budgets and groups' minimums allow."""
    live = len(fleet.of_kind(Kind.UP, usable_only=True))
    budget = max(0, policy.scale_in.max_per_min - spent(state.drained, now))
    at_most = min(budget, max(1, int(policy.scale_in.max_fraction * live)))
    spare = _spare(policy, fleet)
    chosen: list[Member] = []
    for member, slots in _candidates(policy, fleet, grace_s=grace_s, now=now):
        # One in quarantine takes no tasks, and the place of one that would.
        fits = slots == 0 or (slots <= surplus_slots and spare[member.group] > 0)
        if fits and len(chosen) < at_most:
            chosen.append(member)
            surplus_slots -= slots
            spare[member.group] -= 1 if slots else 0
    return chosen


def _spare(policy: PolicySettings, fleet: Fleet) -> Counter[str]:
    """How many slaves each group has beyond its minimum."""
    present = Counter(member.group for member in fleet.of_kind(Kind.UP, Kind.BOOTING, usable_only=True))
    return Counter({group.name: present[group.name] - group.min for group in policy.groups})


def _candidates(policy: PolicySettings, fleet: Fleet, *, grace_s: float, now: float) -> Iterator[tuple[Member, int]]:
    """Members that may be drained with the slots that are lost by it, none for a slave in quarantine."""
    found = []
    for member in fleet.of_kind(Kind.UP, Kind.UNFIT, usable_only=True):
        slave = member.slave
        if slave is not None and _is_idle(policy, slave, grace_s, now) and slave.state in ("up", "quarantined"):
            found.append((_order_of_departure(policy, member, slave), member, slave))
    for _, member, slave in sorted(found, key=lambda entry: entry[0]):
        yield member, slave.slots if slave.state == "up" else 0


def _is_idle(policy: PolicySettings, slave: SlaveSnapshot, grace_s: float, now: float) -> bool:
    if slave.busy or slave.lease_held or slave.want != "run" or slave.idle_since is None:
        return False
    return now - slave.idle_since >= grace_s and now - slave.started >= policy.scale_in.min_uptime_s


def _order_of_departure(
    policy: PolicySettings, member: Member, slave: SlaveSnapshot
) -> tuple[bool, bool, bool, int, float, str, str]:
    group = policy.group(member.group)
    is_spot, priority = (group.spot, group.priority) if group else (False, 0)
    idle_since = slave.idle_since or 0.0
    is_up = slave.state == "up"
    return (is_up, not member.instance.old_template, is_spot, -priority, idle_since, member.name, member.instance.id)


def slots_to_undrain(*, waiting: int, idle: int, missing: int) -> int:
    """The slots that drained slaves shall give: they are there and paid for, so each waiting task may have one."""
    return max(0, waiting - idle, missing)


def slots_of(members: Iterable[Member]) -> int:
    """The slots of the slaves of these members."""
    return sum(member.slave.slots for member in members if member.slave is not None)
