"""decide: what to do with the groups, given what is known. No I/O, no clock, no chance: equal cases, equal decisions.

1. Hold, doing nothing, when a signal is missing or old: not knowing never means zero.
2. Give up what will never be a slave, and let its group rest (repair).
3. Size the work (demand), and remember the size for a while, so that a lull gives nothing back.
4. Take drains back, where there is work for the drained.
5. Too few: buy (growth). Enough: drain the idle beyond what was wanted lately (shrink).
6. Delete what has acknowledged its drain.
"""

from dataclasses import dataclass, replace

from dist_test_autoscale.decision import Action, Cause, Decision, Hold, Kind, act_on, named
from dist_test_autoscale.demand import Backlog, backlog, desired_slaves, slots_for
from dist_test_autoscale.fleet import Fleet, Member, classify, whole_slaves
from dist_test_autoscale.growth import Growth, grow
from dist_test_autoscale.repair import Repair, repair
from dist_test_autoscale.settings import PolicySettings
from dist_test_autoscale.shrink import Parked, departures, parked_members, slots_of, slots_to_undrain, undrains, victims
from dist_test_autoscale.snapshot import JobSnapshot, QueueSnapshot, Snapshot
from dist_test_autoscale.state import State

# Twice the longest outage of MySQL that must not cost a slave. Later, half of the slaves really are dead, and waiting
# work must not wait for somebody to look; they are still not deleted.
MAX_DOUBT_S = 1800.0


@dataclass(frozen=True, kw_only=True)
class _Need:
    """The size of the work. `floor` is the most that was wanted lately; `missing` slaves would have to be bought."""

    desired: int
    floor: int
    capacity_slots: int
    backlog: Backlog
    state: State


def decide(policy: PolicySettings, snapshot: Snapshot, state: State) -> Decision:
    """Decide. The state is that of the decision before; the one to hand to the next is in the answer."""
    queue, jobs = snapshot.queue, snapshot.jobs
    if not snapshot.leader:
        return _held(Hold.NOT_LEADER, "another service decides", state)
    if queue is None or snapshot.now - queue.at > policy.stale_s:
        return _held(Hold.STALE_QUEUE, _age_of_queue(queue, snapshot.now), state)
    if jobs is None or snapshot.slaves is None:
        return _held(Hold.STALE_DB, f"the {'jobs' if jobs is None else 'slaves'} could not be read from MySQL", state)
    unfinished = sum(job.ready_n + job.running_n for job in jobs)
    if queue.is_missing and unfinished:
        return _held(Hold.QUEUE_MISSING, f"beanstalkd knows no such tube, MySQL has {unfinished} unfinished", state)
    fleet = classify(policy, snapshot)
    state = _note_doubt(state, fleet, snapshot.now)
    if state.doubt_since is not None and snapshot.now - state.doubt_since < MAX_DOUBT_S:
        return _held(Hold.STALE_DB, _silence(fleet), state)
    if not fleet.usable:
        return _held(Hold.NO_USABLE_GROUP, "no group of the configuration can be read and changed", state)
    return _decide(policy, snapshot, fleet, queue, jobs, _note_server(policy, state, queue, snapshot.now))


def _held(hold: Hold, why: str, state: State) -> Decision:
    return Decision(hold=hold, desired=None, capacity=None, reasons=(f"hold {hold}: {why}",), state=state)


def _age_of_queue(queue: QueueSnapshot | None, now: float) -> str:
    if queue is None:
        return "beanstalkd's statistics could not be read"
    return f"beanstalkd's statistics are {now - queue.at:.0f} s old"


def _silence(fleet: Fleet) -> str:
    silent = fleet.silent_slaves()
    return f"{len(silent)} of {len(silent) + fleet.fresh_count()} slaves look silent, {named(silent)}"


def _note_doubt(state: State, fleet: Fleet, now: float) -> State:
    if not fleet.looks_stale():
        return replace(state, doubt_since=None)
    return state if state.doubt_since is not None else replace(state, doubt_since=now)


def _note_server(policy: PolicySettings, state: State, queue: QueueSnapshot, now: float) -> State:
    """Remember which beanstalkd this is; another one lacks entries until the master's reconciler has put them back."""
    if state.server_id not in (None, queue.server_id):
        state = state.hold_scale_in(now + policy.scale_in.queue_restart_hold_s)
    return replace(state, server_id=queue.server_id)


def _decide(
    policy: PolicySettings,
    snapshot: Snapshot,
    fleet: Fleet,
    queue: QueueSnapshot,
    jobs: tuple[JobSnapshot, ...],
    state: State,
) -> Decision:
    now, per_slave = snapshot.now, policy.size.slots_per_slave
    repaired = repair(policy, snapshot, fleet, state.backoffs)
    need = _need(policy, snapshot, fleet, queue, jobs, state)
    parked = parked_members(fleet, state.drains, now)
    undrained = _undrained(policy, queue, fleet, need, parked, now)
    back = [member for member, _ in undrained]
    missing_slots = need.desired * per_slave - need.capacity_slots - slots_of(back)
    missing = whole_slaves(missing_slots, per_slave)
    bought = grow(policy, snapshot.groups, fleet, repaired, need.state, undrained=back, missing=missing, now=now)
    waiting = 0 if queue.is_paused else need.backlog.waiting
    unneeded = 0 if missing or undrained else max(0, fleet.idle_slots() - waiting)
    drained = _drained(policy, snapshot, fleet, need, bought, at_most_slots=unneeded)
    leaving = departures(parked, {member.key for member, _ in undrained})
    return Decision(
        hold=None,
        desired=need.desired,
        capacity=need.capacity_slots // per_slave,
        reasons=(
            _size(need, per_slave),
            *repaired.reasons,
            *_changes(undrained, drained, leaving),
            *bought.reasons,
            *_pauses(queue, need.state, now),
        ),
        actions=_actions(repaired, undrained, drained, leaving, bought),
        unplaced=bought.unplaced,
        state=replace(
            need.state.note_bought(now, bought.total).note_drained(now, len(drained)),
            backoffs=repaired.backoffs,
            drains=_open_drains(parked, undrained, drained, now),
        ),
    )


def _need(
    policy: PolicySettings,
    snapshot: Snapshot,
    fleet: Fleet,
    queue: QueueSnapshot,
    jobs: tuple[JobSnapshot, ...],
    state: State,
) -> _Need:
    size, boot_s = policy.size, snapshot.boot_s
    work = backlog(queue, jobs, default_task_s=size.default_task_s, busy_elsewhere=fleet.busy_elsewhere())
    grace_s = policy.scale_in.grace_s(boot_s)
    slots = slots_for(size, work, live_slots=fleet.live_slots(), boot_s=boot_s, grace_s=grace_s)
    least = max(size.min_total, sum(group.min for group in policy.groups))
    desired = desired_slaves(size, slots, least=least)
    capacity_slots = fleet.capacity_slots(size.slots_per_slave)
    if queue.is_paused:
        desired = min(desired, max(capacity_slots // size.slots_per_slave, least))
    state = state.note_wanted(snapshot.now, desired, window_s=policy.scale_in.stabilize_s)
    floor = max(state.most_wanted(), least)
    return _Need(desired=desired, floor=floor, capacity_slots=capacity_slots, backlog=work, state=state)


def _undrained(
    policy: PolicySettings, queue: QueueSnapshot, fleet: Fleet, need: _Need, parked: list[Parked], now: float
) -> list[tuple[Member, Cause]]:
    missing = need.desired * policy.size.slots_per_slave - need.capacity_slots
    waiting = 0 if queue.is_paused else need.backlog.waiting
    slots = slots_to_undrain(waiting=waiting, idle=fleet.idle_slots(), missing=missing)
    return undrains(policy, parked, slots=slots, now=now)


def _drained(
    policy: PolicySettings, snapshot: Snapshot, fleet: Fleet, need: _Need, bought: Growth, *, at_most_slots: int
) -> list[Member]:
    if need.state.holds_scale_in(snapshot.now):
        return []
    surplus_slots = min(at_most_slots, need.capacity_slots - need.floor * policy.size.slots_per_slave)
    grace_s = policy.scale_in.grace_s(snapshot.boot_s)
    chosen = victims(policy, fleet, need.state, surplus_slots=surplus_slots, grace_s=grace_s, now=snapshot.now)
    # A group that is below its minimum grows even when there are slaves enough; it does not give any back meanwhile.
    return [member for member in chosen if member.group not in bought.slaves]


def _open_drains(
    parked: list[Parked], undrained: list[tuple[Member, Cause]], drained: list[Member], now: float
) -> dict[tuple[str, str], float]:
    """Drains that wait for an answer, with the time since when; one that is taken back begins anew should it come."""
    ended = {member.key for member, _ in undrained}
    waiting = {one.key: one.since for one in parked if one.key not in ended}
    return waiting | {member.key: now for member in drained}


def _actions(
    repaired: Repair,
    undrained: list[tuple[Member, Cause]],
    drained: list[Member],
    leaving: list[tuple[Member, Cause]],
    bought: Growth,
) -> tuple[Action, ...]:
    return (
        *act_on(Kind.UNDRAIN, undrained),
        *act_on(Kind.DRAIN, ((member, Cause.IDLE) for member in drained)),
        *act_on(Kind.DELETE, (*repaired.removed, *leaving)),
        *(Action(kind=Kind.BACKOFF, group=group, seconds=backoff.seconds) for group, backoff in repaired.begun.items()),
        *(Action(kind=Kind.GROW, group=group, slaves=slaves) for group, slaves in bought.slaves.items()),
    )


def _size(need: _Need, per_slave: int) -> str:
    work = need.backlog
    junk = f", {work.junk} entries are of canceled tasks" if work.junk else ""
    kept = f", {need.floor} were wanted lately" if need.floor > need.desired else ""
    return (
        f"{work.waiting} tasks wait and {work.running} run, {work.seconds:.0f} s of work{junk}:"
        f" {need.desired} slaves are wanted{kept}, {need.capacity_slots // per_slave} are there or boot"
    )


def _changes(
    undrained: list[tuple[Member, Cause]], drained: list[Member], leaving: list[tuple[Member, Cause]]
) -> list[str]:
    wanted = [member for member, cause in undrained if cause is Cause.WORK]
    silent = [member for member, cause in undrained if cause is Cause.NO_ANSWER]
    sentences = {
        "take back the drain of {}: there is work for it": wanted,
        "take back the drain of {}: it was never acknowledged": silent,
        "drain {}: idle for long, and not needed": drained,
        "delete {}: drained": [member for member, _ in leaving],
    }
    return [sentence.format(named(members)) for sentence, members in sentences.items() if members]


def _pauses(queue: QueueSnapshot, state: State, now: float) -> list[str]:
    paused = ["the tube is paused: nothing is bought for it"] if queue.is_paused else []
    if state.hold_in_until is not None and state.holds_scale_in(now):
        return [*paused, f"no slave is drained for another {state.hold_in_until - now:.0f} s"]
    return paused
