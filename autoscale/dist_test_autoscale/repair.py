"""Give up what will not become a slave: instances that Compute Engine cannot make, and those that fell silent."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from dist_test_autoscale.decision import Cause, named
from dist_test_autoscale.fleet import Fleet, Kind, Member
from dist_test_autoscale.settings import PolicySettings
from dist_test_autoscale.snapshot import Snapshot
from dist_test_autoscale.state import Backoff

FIRST_BACKOFF_S = 300.0
LAST_BACKOFF_S = 1800.0
MIN_ZOMBIE_S = 300.0  # of silence; a slave that restarts, or whose host is updated, is back sooner
MIN_DB_FRESH_S = 180.0  # after an outage of MySQL, slaves need a moment to be heard of again
MAX_ZOMBIES = 2  # given up per group and decision: should we be wrong, somebody can notice


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Members to delete, groups whose back-off begins now, and all back-offs that matter from now on.

    `tried` are groups whose machines never became slaves so far, while nobody can tell whose fault that is.
    """

    removed: tuple[tuple[Member, Cause], ...]
    begun: Mapping[str, Backoff]
    backoffs: Mapping[str, Backoff]
    tried: frozenset[str]
    reasons: tuple[str, ...]

    def failed_in(self, group: str) -> int:
        """How many instances of the group's target were never made, and are given up."""
        return sum(member.group == group and cause is Cause.FAILED for member, cause in self.removed)


def repair(policy: PolicySettings, snapshot: Snapshot, fleet: Fleet, known: Mapping[str, Backoff]) -> Repair:
    """Choose what to give up. `known` are the back-offs so far."""
    failed = fleet.of_kind(Kind.FAILED, usable_only=True)
    zombies = _zombies(policy, snapshot, fleet)
    kept = {group: backoff for group, backoff in known.items() if not backoff.is_forgotten(snapshot.now)}
    stillborn = _stillborn(fleet)
    causes = _causes_of_backoff(failed, [member for member in stillborn if _is_news(member, kept)])
    begun = {
        group: next_backoff(kept.get(group), snapshot.now)
        for group in sorted(causes)
        if group not in kept or not kept[group].holds(snapshot.now)
    }
    return Repair(
        removed=(*((member, Cause.FAILED) for member in failed), *((member, Cause.ZOMBIE) for member in zombies)),
        begun=begun,
        backoffs=kept | begun,
        tried=frozenset(member.group for member in stillborn),
        reasons=(*_failures(failed), *_silences(zombies), *_pauses(begun, causes)),
    )


def _zombies(policy: PolicySettings, snapshot: Snapshot, fleet: Fleet) -> list[Member]:
    """Machines that run without a slave, as far as a table can tell that others write too."""
    is_db_trusted = snapshot.db_fresh_for is None or snapshot.db_fresh_for >= MIN_DB_FRESH_S
    if not is_db_trusted or fleet.fresh_count() == 0 or fleet.looks_stale():
        return []
    silent_s = max(policy.scale_out.boot_timeout_s, MIN_ZOMBIE_S)
    chosen: dict[str, list[Member]] = defaultdict(list)
    for member in fleet.of_kind(Kind.SILENT, usable_only=True):
        if _is_dead(member, snapshot.now, silent_s) and len(chosen[member.group]) < MAX_ZOMBIES:
            chosen[member.group].append(member)
    return [member for members in chosen.values() for member in members]


def _is_dead(member: Member, now: float, silent_s: float) -> bool:
    if member.slave is None:
        return now - member.instance.first_seen >= silent_s
    return now - member.slave.heartbeat >= silent_s and not member.slave.lease_held


def _stillborn(fleet: Fleet) -> list[Member]:
    """Machines that run and never became slaves, where no slave at all is heard of: more of them would not either."""
    if fleet.fresh_count():
        return []
    return [member for member in fleet.of_kind(Kind.SILENT, usable_only=True) if member.slave is None]


def _is_news(stillborn: Member, kept: Mapping[str, Backoff]) -> bool:
    """Whether it came after its group's last back-off. One from before must not keep the group closed for ever."""
    backoff = kept.get(stillborn.group)
    return backoff is None or stillborn.instance.first_seen >= backoff.until


def _causes_of_backoff(failed: Iterable[Member], stillborn: Iterable[Member]) -> dict[str, str]:
    causes = {member.group: "its instances run, but no slave registers" for member in stillborn}
    for member in failed:
        causes[member.group] = _error(member)
    return causes


def _error(member: Member) -> str:
    return ", ".join(sorted(set(member.instance.errors))) or "instances that take too long to be made"


def next_backoff(previous: Backoff | None, now: float) -> Backoff:
    """The back-off that begins now, after one that is not forgotten yet."""
    seconds = FIRST_BACKOFF_S if previous is None else min(2 * previous.seconds, LAST_BACKOFF_S)
    return Backoff(until=now + seconds, seconds=seconds)


def _failures(failed: Iterable[Member]) -> Iterator[str]:
    by_cause: dict[tuple[str, str], list[Member]] = defaultdict(list)
    for member in failed:
        by_cause[member.group, _error(member)].append(member)
    for (group, error), members in sorted(by_cause.items()):
        yield f"{group}: delete {named(members)}, which Compute Engine could not make: {error}"


def _silences(zombies: Iterable[Member]) -> Iterator[str]:
    by_group: dict[str, list[Member]] = defaultdict(list)
    for member in zombies:
        by_group[member.group].append(member)
    for group, members in sorted(by_group.items()):
        yield f"{group}: delete zombie {named(members)}: the machine runs, its slave is silent and holds no lease"


def _pauses(begun: Mapping[str, Backoff], causes: Mapping[str, str]) -> Iterator[str]:
    for group, backoff in begun.items():
        yield f"{group}: backoff of {backoff.seconds:g} s: {causes[group]}"
