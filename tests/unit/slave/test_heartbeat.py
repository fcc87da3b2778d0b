"""The heartbeat: what it stops, and when it stops everything."""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import pytest

from dist_test.errors import DatabaseUnavailable, QueueEntryGone
from dist_test.model.task import AttemptKey, QueueEntry, Task
from dist_test.slave.heartbeat import Heartbeat
from dist_test.slave.holdings import Holding, Holdings, Stop
from dist_test.slave.standing import Standing
from dist_test.storage.claims import Claim, Claims, HeartbeatAnswer
from dist_test.storage.queue import Queue, Reservation

from .test_standing import Clock

LEASE = timedelta(seconds=60)


class FakeClaims:
    """Answers as it is told, or is away."""

    def __init__(self) -> None:
        self.answer = HeartbeatAnswer(lost=frozenset(), canceled=frozenset(), want="run")
        self.is_away = False
        self.freezes = False
        self.thawed = threading.Event()
        self.renewed: list[Sequence[Claim]] = []
        self.states: list[str] = []

    def renew(self, claims: Sequence[Claim], *, busy: int, state: str, message: str) -> HeartbeatAnswer:
        if self.freezes:
            self.thawed.wait()
        if self.is_away:
            raise DatabaseUnavailable("away")
        self.renewed.append(claims)
        self.states.append(state)
        return self.answer


class FakeQueue:
    """Counts touches; may have lost everything."""

    def __init__(self) -> None:
        self.touched = 0
        self.is_gone = False

    def touch(self, reservation: Reservation) -> None:
        if self.is_gone:
            raise QueueEntryGone("gone")
        self.touched += 1


class Bench:
    """A heartbeat between fakes, beaten by hand."""

    def __init__(self) -> None:
        self.clock, self.claims, self.queue = Clock(), FakeClaims(), FakeQueue()
        self.holdings, self.standing = Holdings(), Standing(quarantine_retry=LEASE)
        self.registered = 0
        self.busy = 1
        self.heartbeat = Heartbeat(
            cast(Claims, self.claims),
            self.holdings,
            self.standing,
            busy=lambda: self.busy,
            register=self._register,
            every=timedelta(seconds=5),
            lease=LEASE,
            clock=self.clock,
        )

    def hold(self, task: int) -> Holding:
        key = AttemptKey(1, task, 0)
        entry = QueueEntry(key=key, job_id="j", task=Task(isolate_hash="a" * 40, description="d"), delivery=1)
        reservation = Reservation(entry=task, body="", connection=1)
        claim = Claim(key=key, number=1)
        holding = Holding(entry=entry, queue=cast(Queue, self.queue), reservation=reservation, claim=claim)
        self.holdings.add(holding)
        return holding

    def _register(self) -> None:
        self.registered += 1


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_everything_held_is_renewed_and_touched(bench: Bench) -> None:
    held = [bench.hold(1), bench.hold(2)]
    bench.heartbeat.beat()
    assert bench.claims.renewed == [[holding.claim for holding in held]]
    bench.heartbeat.touch()
    assert bench.queue.touched == 2
    assert [holding.stopped for holding in held] == [None, None]


def test_lost_claims_are_stopped_each_for_its_reason(bench: Bench) -> None:
    taken, canceled, kept = bench.hold(1), bench.hold(2), bench.hold(3)
    lost = frozenset((taken.claim, canceled.claim))
    bench.claims.answer = HeartbeatAnswer(lost=lost, canceled=frozenset((canceled.claim,)), want="run")
    bench.heartbeat.beat()
    assert [holding.stopped for holding in (taken, canceled, kept)] == [Stop.TAKEN, Stop.CANCELED, None]


def test_a_lost_reservation_stops_nothing(bench: Bench) -> None:
    holding = bench.hold(1)
    bench.queue.is_gone = True
    bench.heartbeat.touch()
    bench.heartbeat.beat()
    assert holding.stopped is None


def test_everything_is_stopped_once_a_whole_lease_could_not_be_renewed(bench: Bench) -> None:
    holding = bench.hold(1)
    bench.heartbeat.beat()
    bench.claims.is_away = True
    bench.clock.now = 59.0
    bench.heartbeat.beat()
    assert holding.stopped is None
    bench.clock.now = 61.0
    bench.heartbeat.beat()
    assert holding.stopped is Stop.TAKEN


def test_everything_is_stopped_in_time_while_a_beat_waits_for_a_frozen_database(bench: Bench) -> None:
    holding = bench.hold(1)
    stopped = threading.Event()
    holding.on_stop(stopped.set)
    bench.heartbeat.beat()
    bench.claims.freezes = True
    bench.clock.now = 59.8
    beat = threading.Thread(target=bench.heartbeat.beat)
    beat.start()
    try:
        assert stopped.wait(10)
        assert holding.stopped is Stop.TAKEN
        assert beat.is_alive()
    finally:
        bench.claims.thawed.set()
        beat.join()


def test_a_beat_that_succeeds_after_the_end_of_the_lease_stops_nothing(bench: Bench) -> None:
    holding = bench.hold(1)
    bench.clock.now = 300.0
    bench.heartbeat.beat()
    assert holding.stopped is None


def test_what_is_wanted_is_noted_and_a_row_that_is_gone_is_written_again(bench: Bench) -> None:
    bench.claims.answer = HeartbeatAnswer(lost=frozenset(), canceled=frozenset(), want="drain")
    bench.heartbeat.beat()
    assert bench.standing.is_draining
    bench.claims.answer = HeartbeatAnswer(lost=frozenset(), canceled=frozenset(), want=None)
    bench.heartbeat.beat()
    assert bench.registered == 1


def test_a_slave_is_drained_once_its_last_result_is_recorded(bench: Bench) -> None:
    uploading = bench.hold(1)
    bench.claims.answer = HeartbeatAnswer(lost=frozenset(), canceled=frozenset(), want="drain")
    bench.standing.want("drain")
    bench.heartbeat.beat()
    bench.busy = 0
    bench.heartbeat.beat()
    bench.holdings.remove(uploading)
    bench.heartbeat.beat()
    assert bench.claims.states == ["draining", "draining", "drained"]


def test_a_beat_comes_early_when_there_is_news(bench: Bench) -> None:
    bench.heartbeat.start()
    deadline = time.monotonic() + 4
    while not bench.claims.states and time.monotonic() < deadline:
        time.sleep(0.01)
    bench.standing.preempt()
    bench.heartbeat.hurry()
    while bench.claims.states[-1] != "preempted" and time.monotonic() < deadline:
        time.sleep(0.01)
    bench.heartbeat.stop()
    assert bench.claims.states[-1] == "preempted"


def test_what_is_added_after_everything_was_stopped_is_stopped_too(bench: Bench) -> None:
    held = bench.hold(1)
    bench.holdings.stop_all(Stop.HANDED_BACK)
    assert [held.stopped, bench.hold(2).stopped] == [Stop.HANDED_BACK, Stop.HANDED_BACK]


def test_stopping_interrupts_once_and_late_interrupts_at_once(bench: Bench) -> None:
    calls: list[str] = []
    holding = bench.hold(1)
    holding.on_stop(lambda: calls.append("first"))
    holding.stop(Stop.CANCELED)
    holding.stop(Stop.TAKEN)
    holding.on_stop(lambda: calls.append("late"))
    assert (calls, holding.stopped) == (["first", "late"], Stop.CANCELED)
