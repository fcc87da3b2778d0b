"""Submit: in two steps, taken up by anybody after a crash, and fair between owners."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text

from dist_test.errors import InvalidJob, JobConflict, SubmitInProgress
from dist_test.master.service import Service
from dist_test.model import schedule
from dist_test.model.task import QueueEntry, Task
from dist_test.storage.claims import Claim
from dist_test.storage.database import Database
from dist_test.storage.fairness import set_weight
from dist_test.storage.queue import Queue

from .conftest import Hand, job

MakeHand = Callable[..., Hand]
Take = Callable[[], QueueEntry]


def _order(take: Take, number: int) -> list[str]:
    return [take().task.description for _ in range(number)]


def _learn(hand: Hand, take: Take, seconds: dict[str, float]) -> None:
    for _ in seconds:
        entry = take()
        hand.finish(hand.claim(entry), duration_seconds=seconds[entry.task.description])


def test_unknown_tasks_run_first_then_the_longest(service: Service, hand: MakeHand, take: Take) -> None:
    seconds = {"short": 1.0, "long": 9.0, "middle": 5.0}
    service.submit(job(*seconds, job_id="first", project="p"))
    _learn(hand("a"), take, seconds)
    service.submit(job("short", "new", "long", "middle", job_id="second", project="p"))
    assert _order(take, 4) == ["new", "long", "middle", "short"]


def test_the_same_submit_again_changes_nothing(service: Service, queue: Queue) -> None:
    _, created = service.submit(job("one", "two"))
    again, created_again = service.submit(job("one", "two"))
    assert (created, created_again, again.counters.total_tasks) == (True, False, 2)
    assert queue.statistics().ready == 2


def test_what_is_put_at_once_is_what_another_master_would_read(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("known", job_id="first", project="p"))
    _learn(hand("a"), take, {"known": 2.5})
    rare = Task(
        isolate_hash="b" * 40, description="é😀", artifact_globs=("*.log",), docker_image="i", env=(("A", "ü"),)
    )
    asked = job("known", job_id="second", project="p")
    record, _ = service.submit(replace(asked, tasks=(*asked.tasks, rare)))
    put = [take(), take()]
    [page] = service.entries.waiting_of_job(record.job_key)
    assert sorted(put, key=lambda entry: entry.key) == [item.entry for item in page]
    assert [entry.task.description for entry in put] == ["é😀", "known"]


def test_the_same_id_with_other_tasks_is_a_conflict(service: Service) -> None:
    service.submit(job("one"))
    with pytest.raises(JobConflict, match="job is there already, with other tasks"):
        service.submit(job("two"))


def test_a_description_of_a_thousand_characters_is_kept_whole(service: Service, take: Take) -> None:
    description = "é😀" * 500
    record, _ = service.submit(job(description))
    assert service.jobs.attempts(record.job_key)[0].description == description
    assert take().task.description == description


def test_a_task_too_big_for_the_queue_is_refused_before_anything_is_stored(
    service: Service, queue: Queue, database: Database
) -> None:
    big = Task(isolate_hash="a" * 40, description="d", env=(("X", "x" * queue.max_body_bytes()),))
    with pytest.raises(InvalidJob, match=r"tasks\[1\] makes a queue entry of \d+ bytes; beanstalkd takes 1048576"):
        service.submit(replace(job("one"), tasks=(*job("one").tasks, big)))
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM jobs")).scalar_one() == 0


class _CrashError(Exception):
    """Stands for the death of the master."""


def _crash(*_: object, **__: object) -> None:
    raise _CrashError


@pytest.mark.parametrize("step", ["store", "keep", "complete"])
def test_another_master_takes_a_dead_submit_up(
    step: str, service: Service, hand: MakeHand, take: Take, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(service.submissions, step, _crash)
        with pytest.raises(_CrashError):
            service.submit(job("one", "two"))
    with pytest.raises(SubmitInProgress):
        service.submit(job("one", "two"))
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET submit_lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND"))

    record, created = service.submit(job("one", "two"))

    assert (created, record.state, record.counters.total_tasks) == (True, "running", 2)
    claimed = _claim_all(hand("a"), service)
    assert sorted(claimed) == [0, 1]


def _claim_all(hand: Hand, service: Service) -> list[int]:
    """The tasks that a slave gets to run when it works the whole tube off, old entries included."""
    claimed = []
    with service._queues.borrow() as queue:
        while (reservation := queue.reserve(timeout_seconds=0)) is not None:
            entry = QueueEntry.from_body(reservation.body)
            if isinstance(hand.claims.claim(entry), Claim):
                claimed.append(entry.key.task)
            queue.finish(reservation)
    return claimed


def test_a_fenced_master_cannot_complete(service: Service, database: Database) -> None:
    submission = service.submissions.begin(job("one"))
    assert submission is not None
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET submit_lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND"))
    service.submit(job("one"))
    for act in (service.submissions.keep, service.submissions.complete):
        with pytest.raises(SubmitInProgress):
            act(submission)


def test_racing_masters_reserve_ranges_that_do_not_overlap(service: Service, database: Database) -> None:
    names = [f"j{number}" for number in range(8)]
    threads = [threading.Thread(target=lambda name=name: service.submit(job("a", "b", job_id=name))) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT start_tag FROM attempts ORDER BY start_tag")).scalars().all()
    assert rows == [number * schedule.UNKNOWN_SECONDS for number in range(16)]


def test_a_small_job_of_another_owner_starts_at_once(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job(*[f"t{number}" for number in range(1_000)], job_id="big", owner="ann"))
    a = hand("a")
    for _ in range(5):
        a.claim(take())
    service.submit(job("small", job_id="small", owner="bob"))
    # One task of ann's has the same tag as bob's first; equal ones are first in, first out.
    assert "small" in _order(take, 2)


def test_a_heavier_owner_gets_more(service: Service, database: Database, take: Take) -> None:
    with database.engine.begin() as connection:
        set_weight(connection, "bob", 3.0)
    service.submit(job(*["a"] * 400, job_id="ann", owner="ann"))
    service.submit(job(*["b"] * 400, job_id="bob", owner="bob"))
    first = _order(take, 200)
    assert first.count("b") / first.count("a") == pytest.approx(3.0, rel=0.05)


def test_a_new_busy_period_begins_when_nothing_is_unfinished(
    service: Service, hand: MakeHand, take: Take, database: Database
) -> None:
    a = hand("a")
    for name in ("first", "second"):
        service.submit(job("one", job_id=name))
        a.finish(a.claim(take()))
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT period, start_tag FROM attempts ORDER BY period")).all()
    assert rows == [(2, 0.0), (3, 0.0)]
