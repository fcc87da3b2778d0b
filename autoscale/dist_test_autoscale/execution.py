"""Do what was decided, act by act, and tell how each went. Before each act: do we still lead?

1. Ask slaves: take drains back, then drain. Each is one conditional update.
2. For each group, side by side: delete, then buy. A drained slave is deleted only if its row still says that it is
   drained: whoever takes the drain back at the same moment changes the row first, or comes too late.
"""

import logging
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from dist_test.errors import CloudError, CloudQuotaExceeded, DatabaseRefused, DatabaseUnavailable, NotLeader
from dist_test.storage.autoscaling import Ask
from dist_test_autoscale.breaker import Fleet
from dist_test_autoscale.decision import Action, Cause, Decision, Kind, Target
from dist_test_autoscale.settings import GroupSettings, PolicySettings

logger = logging.getLogger(__name__)

REQUESTS = uuid.UUID("6f4ada13-7a5c-4f0e-9d51-0c1f2f0f7c11")  # ours; request ids are made from it and what is done


class Fence(Protocol):
    """leader.Leader."""

    def fence(self) -> None: ...


class Slaves(Protocol):
    """The slaves' rows; storage.autoscaling.Autoscaling."""

    def ask(self, ask: Ask, slave_id: str, instance_id: str, *, epoch: int) -> bool: ...

    def is_alive(self, slave_id: str, instance_id: str, *, silence: timedelta) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Order:
    """A decision to carry out until `deadline`. Epoch and tick make its request ids: the same again act once."""

    decision: Decision
    policy: PolicySettings
    epoch: int
    tick: int
    deadline: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an act on a group went: what was asked for, how many of it were done. `error` is "" when nothing failed.

    lacks_quota: the project may not have more of the group's machines now.
    """

    kind: Kind
    group: str
    asked: int
    done: int
    error: str = ""
    lacks_quota: bool = False

    @property
    def result(self) -> str:
        """ok, partial or error: a word to count by."""
        if self.error:
            return "error"
        return "ok" if self.done == self.asked else "partial"

    def to_document(self) -> dict[str, Any]:
        """The outcome as JSON."""
        document = {"kind": str(self.kind), "group": self.group, "asked": self.asked, "done": self.done}
        return document | {"error": self.error} if self.error else document


class Executor:
    """Carries out decisions. For one caller; close() it."""

    def __init__(self, fleet: Fleet, slaves: Slaves, fence: Fence, *, groups: int) -> None:
        """groups: how many of them may be acted on at the same time."""
        self._fleet = fleet
        self._slaves = slaves
        self._fence = fence
        self._pool = ThreadPoolExecutor(max_workers=max(1, groups), thread_name_prefix="act")

    def carry_out(self, order: Order) -> tuple[Outcome, ...]:
        """Do it; what fails is told, not raised, and the next decision sees what is true."""
        actions = order.decision.actions
        asked = [self._asked(order, action) for action in actions if action.kind in (Kind.UNDRAIN, Kind.DRAIN)]
        names = dict.fromkeys(action.group for action in actions if action.kind in (Kind.DELETE, Kind.GROW))
        futures = [self._pool.submit(self._sized, order, name) for name in names]
        return (*asked, *(outcome for future in futures for outcome in future.result()))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _asked(self, order: Order, action: Action) -> Outcome:
        ask = Ask.RUN if action.kind is Kind.UNDRAIN else Ask.DRAIN
        with _noting(action, asked=len(action.targets)) as note:
            for target in action.targets:
                self._fence.fence()
                note.done += self._slaves.ask(ask, target.name, target.instance_id, epoch=order.epoch)
        return note.outcome()

    def _sized(self, order: Order, name: str) -> list[Outcome]:
        group = order.policy.group(name)
        return [] if group is None else list(self._size(order, group))

    def _size(self, order: Order, group: GroupSettings) -> Iterator[Outcome]:
        """Delete first: what was never made frees quota."""
        for kind in (Kind.DELETE, Kind.GROW):
            for action in order.decision.actions:
                if action.group == group.name and action.kind is kind:
                    act = self._deleted if kind is Kind.DELETE else self._grown
                    yield act(order, group, action)

    def _deleted(self, order: Order, group: GroupSettings, action: Action) -> Outcome:
        leaving: list[tuple[str, str]] = []
        with _noting(action, asked=len(action.targets)) as note:
            for target in action.targets:
                if self._may_go(order, target):
                    leaving.append((target.name, target.instance_id))
        # Those that were found free are, whatever went wrong with another.
        if leaving:
            with _noting_on(note):
                self._fence.fence()
                gone = self._fleet.delete(group, leaving, _request_id(order, action), order.deadline)
                note.done = len(gone)
        return note.outcome()

    def _may_go(self, order: Order, target: Target) -> bool:
        if target.cause is Cause.DRAINED:
            self._fence.fence()
            return self._slaves.ask(Ask.DELETE, target.name, target.instance_id, epoch=order.epoch)
        # Was it heard of again since the decision? Then it was no zombie, and may hold a task.
        silence = timedelta(seconds=order.policy.stale_s)
        return not self._slaves.is_alive(target.name, target.instance_id, silence=silence)

    def _grown(self, order: Order, group: GroupSettings, action: Action) -> Outcome:
        with _noting(action, asked=action.slaves) as note:
            self._fence.fence()
            note.done = self._fleet.grow(group, action.slaves, _request_id(order, action), order.deadline)
        return note.outcome()


@dataclass(kw_only=True)
class _Note:
    """What becomes of an act while it is under way."""

    action: Action
    asked: int
    done: int = 0
    error: str = ""
    lacks_quota: bool = False

    def outcome(self) -> Outcome:
        return Outcome(
            kind=self.action.kind,
            group=self.action.group,
            asked=self.asked,
            done=self.done,
            error=self.error,
            lacks_quota=self.lacks_quota,
        )


@contextmanager
def _noting(action: Action, *, asked: int) -> Iterator[_Note]:
    note = _Note(action=action, asked=asked)
    with _noting_on(note):
        yield note


@contextmanager
def _noting_on(note: _Note) -> Iterator[None]:
    """Write down what goes wrong instead of raising it."""
    try:
        yield
    except (CloudError, DatabaseUnavailable, DatabaseRefused, NotLeader) as exc:
        note.error = str(exc)
        note.lacks_quota = isinstance(exc, CloudQuotaExceeded)
        kind, group = note.action.kind, note.action.group
        logger.warning("%s of %s failed: %s", kind, group, exc, extra={"action": "act_failed", "group": group})


def _request_id(order: Order, action: Action) -> str:
    return str(uuid.uuid5(REQUESTS, f"{order.epoch}/{order.tick}/{action.group}/{action.kind}"))
