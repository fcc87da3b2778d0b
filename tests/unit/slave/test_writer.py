"""The writer: nothing that was finished is dropped because something else failed."""

from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from dist_test.errors import DatabaseRefused, DatabaseUnavailable, MasterUnavailable
from dist_test.model.outcome import Outcome
from dist_test.slave.holdings import Holding
from dist_test.slave.writer import Finished, Writer
from dist_test.storage.claims import Claim
from dist_test.storage.finishes import Finishes, Recorded, Result

from .test_heartbeat import Bench


class FakeFinishes:
    """Records what it is given, unless it is to fail."""

    def __init__(self) -> None:
        self.recorded: list[Claim] = []
        self.away_times = 0
        self.refused: set[Claim] = set()
        self.retried: tuple[Claim, ...] = ()
        self.learned = 0

    def record(self, results: Sequence[Result]) -> Recorded:
        if self.away_times:
            self.away_times -= 1
            raise DatabaseUnavailable("away")
        if any(result.claim in self.refused for result in results):
            raise DatabaseRefused("data too long")
        self.recorded += [result.claim for result in results]
        return Recorded(counted=frozenset(result.claim for result in results), retried=self.retried)

    def learn(self) -> None:
        self.learned += 1
        raise RuntimeError("the history is broken")


class FakeMaster:
    """Asked for retries; may be away."""

    def __init__(self) -> None:
        self.asked: list[Holding] = []
        self.is_away = False

    def ask(self, holding: Holding) -> None:
        self.asked.append(holding)
        if self.is_away:
            raise MasterUnavailable("away")


class Desk:
    """A writer between fakes."""

    def __init__(self) -> None:
        self.bench, self.finishes, self.master = Bench(), FakeFinishes(), FakeMaster()
        self.writer = Writer(cast(Finishes, self.finishes), self.bench.holdings, self.master, pause_seconds=0.01)
        self.writer.start()
        self.let_go: list[Claim] = []

    def finish(self, number: int) -> Claim:
        holding = self.bench.hold(number)
        result = Result(claim=holding.claim, outcome=Outcome.SUCCEEDED, task=holding.entry.task)
        claim = holding.claim
        self.writer.put(Finished(holding=holding, result=result, done=lambda: self.let_go.append(claim)))
        return claim


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.writer.stop(timeout_seconds=5)


def test_stopping_writes_what_is_waiting(desk: Desk) -> None:
    claims = [desk.finish(number) for number in range(500)]
    assert desk.writer.stop(timeout_seconds=10)
    assert desk.finishes.recorded == claims == desk.let_go
    assert desk.bench.holdings.all() == []


def test_results_are_held_while_the_database_is_away(desk: Desk) -> None:
    desk.finishes.away_times = 3
    claim = desk.finish(1)
    assert desk.writer.stop(timeout_seconds=10)
    assert desk.finishes.recorded == [claim]


def test_one_result_that_cannot_be_recorded_does_not_take_others_along(desk: Desk) -> None:
    first = desk.finish(0)
    desk.finishes.refused = {Claim(key=first.key._replace(task=2), number=1)}
    claims = [desk.finish(number) for number in range(1, 4)]
    assert desk.writer.stop(timeout_seconds=10)
    assert desk.finishes.recorded == [first, claims[0], claims[2]]
    assert set(desk.let_go) == {first, *claims}, "its entry is given up: the attempt runs again"


def test_the_master_is_asked_for_retries_and_may_be_away(desk: Desk) -> None:
    desk.master.is_away = True
    desk.finishes.retried = (Claim(key=desk.bench.hold(1).claim.key, number=1),)
    claim = desk.finish(1)
    assert desk.writer.stop(timeout_seconds=10)
    assert [holding.claim for holding in desk.master.asked] == [claim]


def test_a_broken_history_stops_nothing(desk: Desk) -> None:
    claim = desk.finish(1)
    assert desk.writer.stop(timeout_seconds=10)
    assert (desk.finishes.recorded, desk.finishes.learned) == ([claim], 1)
