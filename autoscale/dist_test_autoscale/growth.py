"""Buy slaves: which group gives how many."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dist_test_autoscale.fleet import Fleet, Kind, Member
from dist_test_autoscale.repair import Repair
from dist_test_autoscale.settings import GroupSettings, PolicySettings
from dist_test_autoscale.snapshot import GroupSnapshot
from dist_test_autoscale.state import State, spent


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Slaves to buy by group, and those that no group may give now."""

    slaves: Mapping[str, int]
    unplaced: int
    reasons: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(self.slaves.values())


def grow(
    policy: PolicySettings, groups: tuple[GroupSnapshot, ...], fleet: Fleet, repair: Repair, state: State, *,
    undrained: Collection[Member], missing: int, now: float,
) -> Growth:  # fmt: skip
    """Place `missing` slaves: each group's minimum first, then in order of priority, the smaller group first.

    `undrained` are taken back now, and count. A group in which no machine has become a slave yet gets one to try.

    A group's target never exceeds its maximum, even should this decision's deletes fail; nor do all targets together
    exceed max_total, where only what was never made is taken off at once.
    """
    budget = max(0, policy.scale_out.max_per_min - spent(state.bought, now))
    promised = sum(_size(group) - repair.failed_in(group.name) for group in groups)
    room = min(budget, max(0, policy.size.max_total - promised))
    open_groups = _open_groups(policy, fleet, repair, now)
    back = Counter(member.group for member in undrained)
    owed = {group.name: max(0, group.min - _present(fleet, group.name) - back[group.name]) for group in open_groups}
    wanted = max(missing, sum(owed.values()))
    rooms = {group.name: _room(fleet, group, is_tried=group.name in repair.tried) for group in open_groups}
    placed = _fill(rooms, owed, wanted=min(wanted, room))
    unplaced = wanted - sum(placed.values())
    return Growth(slaves=placed, unplaced=unplaced, reasons=_reasons(placed, unplaced, repair, now))


def _open_groups(policy: PolicySettings, fleet: Fleet, repair: Repair, now: float) -> list[GroupSettings]:
    groups = [
        group
        for group in policy.groups
        if group.name in fleet.usable and not (group.name in repair.backoffs and repair.backoffs[group.name].holds(now))
    ]
    return sorted(groups, key=lambda group: (group.priority, _size(fleet.usable[group.name]), group.name))


def _size(group: GroupSnapshot) -> int:
    return max(
        group.target, sum(1 for instance in group.instances if instance.action not in ("DELETING", "ABANDONING"))
    )


def _room(fleet: Fleet, group: GroupSettings, *, is_tried: bool) -> int:
    room = max(0, group.max - _size(fleet.usable[group.name]))
    return min(room, max(0, 1 - _present(fleet, group.name))) if is_tried else room


def _present(fleet: Fleet, name: str) -> int:
    members = fleet.of_kind(Kind.UP, Kind.BOOTING, usable_only=True)
    return sum(member.group == name for member in members) + fleet.pending[name]


def _fill(room: Mapping[str, int], owed: Mapping[str, int], *, wanted: int) -> dict[str, int]:
    placed = dict.fromkeys(room, 0)
    for limit in (owed, room):
        for name in room:
            slaves = max(0, min(wanted - sum(placed.values()), limit[name] - placed[name], room[name] - placed[name]))
            placed[name] += slaves
    return {name: slaves for name, slaves in placed.items() if slaves}


def _reasons(placed: Mapping[str, int], unplaced: int, repair: Repair, now: float) -> tuple[str, ...]:
    reasons = [f"{name}: buy {slaves}" for name, slaves in placed.items()]
    if unplaced > 0:
        paused = [
            f"{name} for {backoff.until - now:.0f} s"
            for name, backoff in sorted(repair.backoffs.items())
            if backoff.holds(now)
        ]
        why = f" (in backoff: {', '.join(paused)})" if paused else ""
        reasons.append(f"unplaced: {unplaced} more are wanted, but limits and budgets leave no room now{why}")
    return tuple(reasons)
