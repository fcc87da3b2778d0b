"""What was decided and why: records for the executor, JSON for people and replays."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dist_test_autoscale.fleet import Member
from dist_test_autoscale.state import State


class Hold(StrEnum):
    """Why nothing at all is done."""

    NOT_LEADER = "not_leader"
    STALE_QUEUE = "stale_queue"
    STALE_DB = "stale_db"
    QUEUE_MISSING = "queue_missing"
    NO_USABLE_GROUP = "no_usable_group"


class Kind(StrEnum):
    """What can be done, in the order in which it is to be done."""

    UNDRAIN = "undrain"
    DRAIN = "drain"
    DELETE = "delete"
    BACKOFF = "backoff"
    GROW = "grow"


class Cause(StrEnum):
    """Why an instance is acted on. A `drained` one is deleted only if its row still says so; the rest need no row."""

    WORK = "work"
    NO_ANSWER = "no_answer"
    IDLE = "idle"
    DRAINED = "drained"
    FAILED = "failed"
    ZOMBIE = "zombie"


@dataclass(frozen=True, kw_only=True)
class Target:
    """An instance to act on: this very machine, not another of its name."""

    name: str
    instance_id: str
    cause: Cause


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing to do to one group: `slaves` to buy, `targets` to act on, or `seconds` not to buy."""

    kind: Kind
    group: str
    slaves: int = 0
    targets: tuple[Target, ...] = ()
    seconds: float = 0.0

    def to_document(self) -> dict[str, Any]:
        """The action as JSON."""
        document: dict[str, Any] = {"kind": str(self.kind), "group": self.group}
        if self.kind is Kind.GROW:
            return document | {"n": self.slaves}
        if self.kind is Kind.BACKOFF:
            return document | {"seconds": self.seconds}
        return document | {"names": [target.name for target in self.targets]}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do now. On `hold` there is nothing to do, and `desired` and `capacity` are None: nobody knows.

    `desired` and `capacity` count slaves, those that boot included. `unplaced` are slaves that are wanted but that no
    group may give now. `reasons` are sentences for people; their wording may change.
    """

    hold: Hold | None
    desired: int | None
    capacity: int | None
    reasons: tuple[str, ...]
    actions: tuple[Action, ...] = ()
    unplaced: int = 0
    state: State = field(repr=False)

    def to_document(self) -> dict[str, Any]:
        """The decision as JSON: what `plan --json` prints."""
        return {
            "hold": None if self.hold is None else str(self.hold),
            "desired": self.desired,
            "capacity": self.capacity,
            "reasons": list(self.reasons),
            "actions": [action.to_document() for action in self.actions],
            "state": self.state.to_document(),
        }


def act_on(kind: Kind, chosen: Iterable[tuple[Member, Cause]]) -> list[Action]:
    """One action for each group that has chosen members; groups and members in order of their names."""
    targets: dict[str, list[Target]] = defaultdict(list)
    for member, cause in chosen:
        targets[member.group].append(Target(name=member.name, instance_id=member.instance.id, cause=cause))
    return [Action(kind=kind, group=group, targets=_in_order(targets[group])) for group in sorted(targets)]


def _in_order(targets: Sequence[Target]) -> tuple[Target, ...]:
    return tuple(sorted(targets, key=lambda target: (target.name, target.instance_id)))


def named(members: Iterable[Member]) -> str:
    """Names for a sentence; the first ones of many."""
    names = sorted(member.name for member in members)
    return ", ".join(names) if len(names) <= 5 else f"{', '.join(names[:4])} and {len(names) - 4} more"
