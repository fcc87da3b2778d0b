"""Who gets the machines, by the order in which a real beanstalkd gives out what masters and slaves put into it."""

from collections import Counter, deque
from collections.abc import Callable

import pytest

from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.storage.claims import Claim
from dist_test.storage.database import Database
from dist_test.storage.fairness import set_weight
from dist_test.storage.queue import Queue

from .conftest import Hand, job

MakeHand = Callable[..., Hand]
SLOTS = 8
WINDOW = 50 * SLOTS  # fifty tasks of equal length one after the other, on each slot
SECONDS = 1.0


class Slots:
    """Slots whose tasks all take equally long: the one that began first ends, and the tube says what comes next."""

    def __init__(self, service: Service, queue: Queue, hand: Hand) -> None:
        self._service, self._queue, self._hand = service, queue, hand
        self._running: deque[tuple[str, QueueEntry, Claim]] = deque()
        self.failing: str | None = None  # a job whose tasks all fail

    def run(self, starts: int) -> Counter[str]:
        """Start so many attempts; give back how many of each job these were."""
        begun: Counter[str] = Counter()
        for _ in range(starts):
            begun[self._start()] += 1
            if len(self._running) == SLOTS:
                self._finish()
        return begun

    def finish_all(self) -> None:
        """End what runs."""
        while self._running:
            self._finish()

    def _start(self) -> str:
        reservation = self._queue.reserve(timeout_seconds=0)
        assert reservation is not None, "the tube is empty"
        entry = QueueEntry.from_body(reservation.body)
        self._running.append((entry.job_id, entry, self._hand.claim(entry)))
        self._queue.finish(reservation)
        return entry.job_id

    def _finish(self) -> None:
        job_id, entry, claim = self._running.popleft()
        outcome = Outcome.FAILED if job_id == self.failing else Outcome.SUCCEEDED
        recorded = self._hand.finish(claim, outcome, duration_seconds=SECONDS)
        for retried in recorded.retried:
            self._service.retry(job_id, entry.task_id, retried.key.attempt, retried.number)


@pytest.fixture
def slots(service: Service, queue: Queue, hand: MakeHand) -> Slots:
    """Slots of one slave. That the test of all jobs takes `SECONDS` is known."""
    slots = Slots(service, queue, hand("a"))
    service.submit(job(*["test"] * SLOTS, job_id="history", owner="nobody"))
    slots.run(SLOTS)
    slots.finish_all()
    return slots


def submit(service: Service, owner: str, tasks: int, max_retries: int = 0) -> None:
    """Submit a job that is called like its owner."""
    service.submit(job(*["test"] * tasks, job_id=owner, owner=owner, max_retries=max_retries))


@pytest.mark.parametrize("weight", [1, 3])
def test_owners_with_work_waiting_share_the_slots_by_their_weights(
    service: Service, slots: Slots, database: Database, weight: float
) -> None:
    with database.engine.begin() as connection:
        set_weight(connection, "bob", weight)
    submit(service, "ann", WINDOW)
    submit(service, "bob", WINDOW)
    begun = slots.run(WINDOW)
    assert begun["bob"] / WINDOW == pytest.approx(weight / (1 + weight), rel=0.05)
    assert begun["ann"] / WINDOW == pytest.approx(1 / (1 + weight), rel=0.05)


def test_a_small_job_starts_at_once_while_ten_thousand_tasks_of_another_owner_wait(
    service: Service, slots: Slots
) -> None:
    submit(service, "ann", 10_000)
    slots.run(WINDOW)
    submit(service, "bob", 10)
    at_once, later = slots.run(SLOTS), slots.run(2 * 10)
    assert at_once["bob"] > 0
    # A fair order lets ann start as many meanwhile.
    assert at_once["bob"] + later["bob"] == 10


def test_an_owner_whose_tests_all_fail_leaves_others_their_share(service: Service, slots: Slots) -> None:
    slots.failing = "ann"
    submit(service, "ann", WINDOW, max_retries=10)
    submit(service, "bob", WINDOW)
    slots.run(SLOTS)
    assert slots.run(WINDOW)["bob"] / WINDOW >= 0.45
