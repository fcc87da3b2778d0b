"""The service: every few seconds read, decide, act, remember.

1. Lead, or stand by: another service decides.
2. Read the signals, for half of the interval at most.
3. Decide (policy.decide), with what operators have pinned.
4. Carry it out, until four fifths of the interval are over. A service that was stopped in between has no time left when
   it goes on, and another may lead by then: so it changes nothing.
5. Keep the state for the next decision, whoever makes it; keep a record of a decision that did something or is news.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from dist_test.errors import DatabaseRefused, DatabaseUnavailable, InvalidSnapshot
from dist_test.storage.autoscaling import EVERY_GROUP, AuditRecord, Pin, Term
from dist_test_autoscale.decision import Decision, Kind
from dist_test_autoscale.documents import Node
from dist_test_autoscale.execution import Order, Outcome
from dist_test_autoscale.metrics import Metrics
from dist_test_autoscale.policy import decide
from dist_test_autoscale.repair import next_backoff
from dist_test_autoscale.settings import PolicySettings, Settings
from dist_test_autoscale.sightings import Sightings
from dist_test_autoscale.snapshot import Case, Snapshot
from dist_test_autoscale.state import State, read_state

logger = logging.getLogger(__name__)

READ_PART = 0.5  # of the interval; what is not read by then counts as it was
ACT_PART = 0.8
SUMMARY_S = 60.0  # between two lines of a log that has nothing new to tell
FORGET_S = 600.0  # between two looks for records that are too old


class Leader(Protocol):
    """leader.Leader."""

    name: str

    def lead(self) -> Term | None: ...

    def resign(self) -> None: ...


class Signals(Protocol):
    """signals.Signals."""

    boots: list[float]

    def read(self, deadline: float, *, leader: bool = True) -> Snapshot: ...

    def ages(self) -> dict[str, float]: ...


class Executor(Protocol):
    """execution.Executor."""

    def carry_out(self, order: Order) -> tuple[Outcome, ...]: ...


class Records(Protocol):
    """What is kept in the database; storage.autoscaling.Autoscaling."""

    def pins(self) -> list[Pin]: ...

    def save(self, *, epoch: int, state: str, summary: str) -> bool: ...

    def record(self, record: AuditRecord, *, epoch: int) -> None: ...

    def forget_old_records(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One round: what was known, what was decided, how it went. `is_dry`: nothing was to be done."""

    case: Case
    decision: Decision
    outcomes: tuple[Outcome, ...]
    is_dry: bool

    def to_document(self) -> dict[str, Any]:
        """The round as the audit keeps it: `case` is a file for `plan --snapshot`."""
        return {
            "case": self.case.to_document(),
            "decision": self.decision.to_document(),
            "results": [outcome.to_document() for outcome in self.outcomes],
            "dry_run": self.is_dry,
        }

    def summary(self) -> dict[str, Any]:
        """The round in short, without what it was based on."""
        decision = self.decision.to_document()
        del decision["state"]
        groups = [
            {"name": group.name, "target": group.target, "instances": len(group.instances), "ok": group.ok}
            for group in self.case.snapshot.groups
        ]
        return {
            "at": self.case.snapshot.now,
            **decision,
            "unplaced": self.decision.unplaced,
            "results": [outcome.to_document() for outcome in self.outcomes],
            "dry_run": self.is_dry,
            "groups": groups,
            "boot_s": round(self.case.snapshot.boot_s, 1),
        }


class Service:
    """Decides and acts. One thread ticks; health, readiness and plan may be asked from others."""

    def __init__(
        self,
        settings: Settings,
        *,
        leader: Leader,
        signals: Signals,
        executor: Executor,
        records: Records,
        sightings: Sightings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._leader = leader
        self._signals = signals
        self._executor = executor
        self._records = records
        self._sightings = sightings
        self._metrics = metrics
        self._clock = clock
        self._state = State()
        self._epoch = 0
        self._ticks = 0
        self._pins: tuple[Pin, ...] = ()
        self._last: Tick | None = None
        self._ended_at: float | None = None
        self._told_at = self._forgot_at = clock()
        metrics.dry_run.set(settings.dry_run)

    def tick(self) -> Tick:
        """One round. Whatever the outside does is told in it, not raised."""
        began = self._clock()
        term = self._leader.lead()
        if term is None:
            tick = self._stand_by(began)
        else:
            if term.epoch != self._epoch:
                self._take_over(term)
            tick = self._decide(term, began)
            if tick.case.snapshot.jobs is not None:  # else the database is away, and would only make us late
                self._keep(term, tick)
        self._tell(tick)
        self._last, self._ended_at = tick, self._clock()
        self._metrics.tick_seconds.observe(self._ended_at - began)
        return tick

    def resign(self) -> None:
        """Let another decide."""
        self._leader.resign()

    def health(self) -> tuple[bool, str]:
        """Whether the rounds go on, and a sentence about it."""
        if self._ended_at is None:
            return False, "no decision was made yet"
        age_s = self._clock() - self._ended_at
        return age_s < 3 * self._settings.interval_s, f"the last decision was made {age_s:.0f} s ago"

    def readiness(self) -> tuple[bool, str]:
        """Whether everything can be read that decisions need, and a sentence about it."""
        if self._last is None:
            return False, "no decision was made yet"
        snapshot = self._last.case.snapshot
        if not snapshot.leader:
            return True, "standing by"
        sources = {"queue": snapshot.queue, "database": snapshot.jobs, "groups": [g for g in snapshot.groups if g.ok]}
        missing = [name for name, found in sources.items() if found is None or found == []]
        return not missing, f"cannot be read: {', '.join(missing)}" if missing else "leading"

    def plan(self) -> Mapping[str, Any] | None:
        """The last round; None before the first."""
        last = self._last
        return None if last is None else last.to_document() | {"leader": self._leader.name}

    def _stand_by(self, began: float) -> Tick:
        snapshot = self._signals.read(began, leader=False)
        policy = self._settings.policy
        decision = decide(policy, snapshot, self._state)
        case = Case(policy=policy, snapshot=snapshot, state=self._state)
        return Tick(case=case, decision=decision, outcomes=(), is_dry=True)

    def _take_over(self, term: Term) -> None:
        """Go on from what the leader before has left. Nobody is drained for a while: it may have known more."""
        self._epoch, self._ticks = term.epoch, 0
        state = State()
        if term.state is not None:
            try:
                state = load_state(term.state, self._sightings)
            except InvalidSnapshot as exc:
                logger.warning("Beginning without the state of the leader before, which cannot be read: %s", exc)
        until = term.began.timestamp() + self._settings.policy.scale_in.stabilize_s
        self._state = state.hold_scale_in(until)

    def _decide(self, term: Term, began: float) -> Tick:
        interval_s = self._settings.interval_s
        snapshot = self._signals.read(began + READ_PART * interval_s)
        if snapshot.jobs is not None:
            self._read_pins()
        policy = with_pins(self._settings.policy, self._pins)
        case = Case(policy=policy, snapshot=snapshot, state=self._state)
        decision = decide(policy, snapshot, self._state)
        is_dry = self._settings.dry_run or any(pin.group == EVERY_GROUP for pin in self._pins)
        self._ticks += 1
        order = Order(
            decision=decision, policy=policy, epoch=term.epoch, tick=self._ticks, deadline=began + ACT_PART * interval_s
        )
        outcomes = () if is_dry else self._executor.carry_out(order)
        self._state = state_after(decision.state, outcomes, snapshot.now)
        return Tick(case=case, decision=decision, outcomes=outcomes, is_dry=is_dry)

    def _read_pins(self) -> None:
        try:
            self._pins = tuple(self._records.pins())
        except (DatabaseUnavailable, DatabaseRefused) as exc:
            logger.warning("What is pinned stays as it was: %s", exc)

    def _keep(self, term: Term, tick: Tick) -> None:
        state = {"policy": self._state.to_document(), "sightings": self._sightings.to_document()}
        try:
            self._records.save(epoch=term.epoch, state=json.dumps(state), summary=json.dumps(tick.summary()))
            if self._is_news(tick):
                record = AuditRecord(
                    hold=None if tick.decision.hold is None else str(tick.decision.hold),
                    desired=tick.decision.desired,
                    document=json.dumps(tick.to_document()),
                )
                self._records.record(record, epoch=term.epoch)
            if self._clock() - self._forgot_at >= FORGET_S:
                self._forgot_at = self._clock()
                self._records.forget_old_records()
        except (DatabaseUnavailable, DatabaseRefused) as exc:
            logger.warning("The decision is not kept: %s", exc)

    def _is_news(self, tick: Tick) -> bool:
        if tick.decision.actions or self._last is None:
            return True
        before, now = self._last.decision, tick.decision
        return (before.hold, before.desired) != (now.hold, now.desired)

    def _tell(self, tick: Tick) -> None:
        self._metrics.note(tick.case.snapshot, tick.decision, tick.outcomes, self._signals.ages())
        for boot_s in self._signals.boots:
            self._metrics.boot_seconds.observe(boot_s)
        if self._is_news(tick) or self._clock() - self._told_at >= SUMMARY_S:
            self._told_at = self._clock()
            logger.info("%s", json.dumps(tick.summary()), extra={"action": "decided"})


def load_state(text: str, sightings: Sightings) -> State:
    """The state that a leader has left; what it has seen goes to `sightings`. Raises InvalidSnapshot."""
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise InvalidSnapshot(f"the state is not JSON: {exc}") from exc
    table = Node(value=document, path="state").table(needed=("policy", "sightings"))
    state = read_state(table["policy"])
    sightings.load(table["sightings"])
    return state


def state_after(state: State, outcomes: Iterable[Outcome], now: float) -> State:
    """The state with what did not go as decided: slaves that were not bought, groups whose quota is used up."""
    for outcome in outcomes:
        if outcome.kind is not Kind.GROW:
            continue
        state = state.note_not_bought(now, outcome.asked - outcome.done)
        known = state.backoffs.get(outcome.group)
        if outcome.lacks_quota and (known is None or not known.holds(now)):
            state = replace(state, backoffs={**state.backoffs, outcome.group: next_backoff(known, now)})
    return state


def with_pins(policy: PolicySettings, pins: Iterable[Pin]) -> PolicySettings:
    """The policy as operators have narrowed it: a pinned group is never larger by our doing, nor smaller."""
    sizes = {pin.group: pin.size for pin in pins if pin.size is not None}
    groups = tuple(
        replace(group, min=sizes[group.name], max=sizes[group.name]) if group.name in sizes else group
        for group in policy.groups
    )
    # What no group may have any more is not asked of all of them together.
    size = replace(policy.size, min_total=min(policy.size.min_total, sum(group.max for group in groups)))
    return replace(policy, size=size, groups=groups)
