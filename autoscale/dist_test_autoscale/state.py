"""What one decision hands to the next: recent demand, spent budgets, holds and back-offs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dist_test_autoscale.documents import Node

BUDGET_WINDOW_S = 60.0  # budgets are per minute

DrainKey = tuple[str, str]
"""Name and id of an instance: a new machine may bear an old name."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """A number of slaves at a time: wanted, bought or drained."""

    at: float
    slaves: int


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """A group that is not grown until then. `seconds` is how long this back-off lasts; the next may last twice that."""

    until: float
    seconds: float

    def holds(self, now: float) -> bool:
        """Whether the group is not to be grown now."""
        return now < self.until

    def is_forgotten(self, now: float) -> bool:
        """Whether the group has been quiet for once more the time of its back-off."""
        return now >= self.until + self.seconds


@dataclass(frozen=True, kw_only=True)
class State:
    """Times are those of the snapshots. The empty state is that of a service that has never decided: nothing is held.

    `wanted` are the desired sizes that may still keep slaves from being given back: each later one is lower.
    `drains` tells since when a drain is known that has not been acknowledged. `doubt_since`: since when half of the
    slaves or more look silent.
    """

    wanted: tuple[Count, ...] = ()
    bought: tuple[Count, ...] = ()
    drained: tuple[Count, ...] = ()
    hold_in_until: float | None = None
    server_id: str | None = None
    backoffs: Mapping[str, Backoff] = field(default_factory=dict)
    drains: Mapping[DrainKey, float] = field(default_factory=dict)
    doubt_since: float | None = None

    def holds_scale_in(self, now: float) -> bool:
        """Whether no slave may be drained now."""
        return self.hold_in_until is not None and now < self.hold_in_until

    def hold_scale_in(self, until: float) -> "State":
        """The same, with no drain before `until`: what a service does that has just become the leader."""
        return replace(self, hold_in_until=max(until, self.hold_in_until or until))

    def note_wanted(self, now: float, slaves: int, *, window_s: float) -> "State":
        """The same, with what is wanted now; what has left the window, or is lower than this, matters no more."""
        kept = [count for count in self.wanted if count.at > now - window_s and count.slaves > slaves]
        return replace(self, wanted=(*kept, Count(at=now, slaves=slaves)))

    def most_wanted(self) -> int:
        """The largest number of slaves wanted within the window of `note_wanted`."""
        return max((count.slaves for count in self.wanted), default=0)

    def note_bought(self, now: float, slaves: int) -> "State":
        """The same, with slaves bought now."""
        return replace(self, bought=_spend(self.bought, now, slaves))

    def note_not_bought(self, now: float, slaves: int) -> "State":
        """The same, with so many fewer slaves bought now than were decided: the budget is there for the next try."""
        if not slaves or not self.bought or self.bought[-1].at != now:
            return self
        *before, last = self.bought
        return replace(self, bought=(*before, replace(last, slaves=max(0, last.slaves - slaves))))

    def note_drained(self, now: float, slaves: int) -> "State":
        """The same, with slaves drained now."""
        return replace(self, drained=_spend(self.drained, now, slaves))

    def to_document(self) -> dict[str, Any]:
        """The state as JSON."""
        return {
            "wanted": [[count.at, count.slaves] for count in self.wanted],
            "bought": [[count.at, count.slaves] for count in self.bought],
            "drained": [[count.at, count.slaves] for count in self.drained],
            "hold_in_until": self.hold_in_until,
            "server_id": self.server_id,
            "backoffs": {name: vars(backoff) for name, backoff in sorted(self.backoffs.items())},
            "drains": [[*key, since] for key, since in sorted(self.drains.items())],
            "doubt_since": self.doubt_since,
        }


def spent(counts: Iterable[Count], now: float) -> int:
    """How much of a budget was spent in the last minute."""
    return sum(count.slaves for count in counts if count.at > now - BUDGET_WINDOW_S)


def _spend(counts: Iterable[Count], now: float, slaves: int) -> tuple[Count, ...]:
    kept = tuple(count for count in counts if count.at > now - BUDGET_WINDOW_S)
    return (*kept, Count(at=now, slaves=slaves)) if slaves else kept


def read_state(node: Node | None) -> State:
    """A state from JSON; the empty one from null. Raises InvalidSnapshot."""
    if node is None:
        return State()
    table = node.table(needed=State().to_document())
    hold, server, doubt = table.find("hold_in_until"), table.find("server_id"), table.find("doubt_since")
    return State(
        wanted=_counts(table["wanted"]),
        bought=_counts(table["bought"]),
        drained=_counts(table["drained"]),
        hold_in_until=None if hold is None else hold.number(),
        server_id=None if server is None else server.text(),
        backoffs={name: _backoff(entry) for name, entry in table["backoffs"].mapping().items()},
        drains=dict(_drain(entry) for entry in table["drains"].items()),
        doubt_since=None if doubt is None else doubt.number(),
    )


def _counts(node: Node) -> tuple[Count, ...]:
    pairs = (_entries(entry, "a time and a number", 2) for entry in node.items())
    return tuple(Count(at=at.number(), slaves=slaves.count()) for at, slaves in pairs)


def _backoff(node: Node) -> Backoff:
    table = node.table(needed=("until", "seconds"))
    return Backoff(until=table["until"].number(), seconds=table["seconds"].seconds())


def _drain(node: Node) -> tuple[DrainKey, float]:
    name, instance_id, since = _entries(node, "a name, an id and a time", 3)
    return (name.text(), instance_id.text()), since.number()


def _entries(node: Node, what: str, length: int) -> list[Node]:
    entries = node.items()
    if len(entries) != length:
        raise node.refuse(f"give {what}")
    return entries
