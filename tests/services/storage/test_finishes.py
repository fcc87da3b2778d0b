"""Results: counters, retries, events and history, all in one transaction."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from dist_test.master.service import Service
from dist_test.model import schedule
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.storage.database import Database
from dist_test.storage.durations import Durations, Observation
from dist_test.storage.finishes import Result
from dist_test.storage.queue import Queue

from .conftest import Hand, job

MakeHand = Callable[..., Hand]
Take = Callable[[], QueueEntry]
TASK = f"{'a' * 40}.0"


def test_the_last_result_ends_the_job(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", "two"))
    a = hand("a")
    a.finish(a.claim(take()))
    assert service.jobs.get("job").state == "running"
    a.finish(a.claim(take()), Outcome.FAILED, exit_status=3)
    record = service.jobs.get("job")
    assert (record.state, record.result, record.counters.failed_tasks) == ("finished", "failed", 1)
    assert record.finished_at is not None


def test_a_failure_with_retries_left_has_its_next_attempt_in_the_same_transaction(
    service: Service, hand: MakeHand, take: Take
) -> None:
    record, _ = service.submit(job("one", max_retries=1))
    a = hand("a")
    claim = a.claim(take())
    assert a.finish(claim, Outcome.FAILED, exit_status=1).retried == (claim,)
    first, second = service.jobs.attempts(record.job_key)
    assert (first.state, second.state, second.key.attempt) == ("finished", "queued", 1)
    found = service.entries.find(second.key)
    assert found is not None
    assert found.priority == schedule.retry_priority(1)


def test_asking_for_a_retry_twice_puts_it_once(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", max_retries=1))
    a = hand("a")
    claim = a.claim(take())
    a.finish(claim, Outcome.FAILED, exit_status=1)
    for _ in range(2):
        service.retry("job", TASK, 0, claim.number)
    assert take().key.attempt == 1
    with service._queues.borrow() as queue:
        assert queue.statistics().ready == 0


def test_a_flaky_task_is_a_marked_success(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", max_retries=1))
    a = hand("a")
    claim = a.claim(take())
    a.finish(claim, Outcome.FAILED, exit_status=1)
    service.retry("job", TASK, 0, claim.number)
    a.finish(a.claim(take()))
    record = service.jobs.get("job")
    assert (record.result, record.counters.flaky_tasks, record.counters.retried_attempts) == ("succeeded", 1, 1)


def test_recording_the_same_batch_again_changes_nothing(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", "two"))
    a = hand("a")
    claim = a.claim(take())
    a.finish(claim)
    before = service.jobs.get("job")
    assert a.finish(claim).counted == frozenset()
    assert service.jobs.get("job") == before


def test_setup_failures_do_not_use_up_retries_and_end_after_three(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one"))
    a = hand("a")
    for attempt in range(3):
        claim = a.claim(take())
        recorded = a.finish(claim, Outcome.SETUP_FAILED, message="disk full")
        if recorded.retried:
            service.retry("job", TASK, attempt, claim.number)
    record = service.jobs.get("job")
    assert (record.result, record.counters.total_attempts, record.counters.flaky_tasks) == ("failed", 3, 0)


def test_a_task_whose_setup_failed_waits_before_it_is_tried_again(
    service: Service, hand: MakeHand, take: Take, queue: Queue
) -> None:
    service._setup_retry_seconds = 1
    service.submit(job("one"))
    a = hand("a")
    claim = a.claim(take())
    a.finish(claim, Outcome.SETUP_FAILED, message="disk full")
    service.retry("job", TASK, 0, claim.number)
    assert queue.statistics().delayed == 1


def test_a_message_of_any_bytes_is_recorded(service: Service, hand: MakeHand, take: Take) -> None:
    record, _ = service.submit(job("one"))
    a = hand("a")
    assert a.finish(a.claim(take()), message="a file named \udcff" + "x" * 2_000).counted
    [attempt] = service.jobs.attempts(record.job_key)
    assert attempt.message is not None
    assert attempt.message.startswith("a file named ?xxx")


def test_too_many_failed_tasks_stop_the_job(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", "two", "three", "four", max_failed_tasks=1, max_retries=1))
    a = hand("a")
    claims = [a.claim(take()) for _ in range(2)]
    for claim in claims:
        a.finish(claim, Outcome.LOST)
    assert service.cancels.half_canceled() == ["job"]
    third = a.claim(take())
    assert a.finish(third, Outcome.FAILED, exit_status=1).retried == ()


def test_a_batch_is_recorded_and_learned_as_a_whole(
    service: Service, hand: MakeHand, take: Take, database: Database
) -> None:
    service.submit(job(*[f"t{number % 3}" for number in range(9)], max_retries=1))
    a = hand("a")
    results = []
    for number in range(9):
        entry = take()
        outcome = Outcome.FAILED if number % 2 else Outcome.SUCCEEDED
        results.append(Result(claim=a.claim(entry), outcome=outcome, task=entry.task, duration_seconds=5.0))
    recorded = a.finishes.record(results)
    a.finishes.learn()
    assert (len(recorded.counted), len(recorded.retried)) == (9, 4)
    record = service.jobs.get("job")
    assert (record.counters.finished_tasks, record.counters.retrying_tasks) == (5, 4)
    finished = [attempt for attempt in service.jobs.attempts(record.job_key) if attempt.state == "finished"]
    assert all(attempt.finished_at is not None and attempt.duration_seconds == 5.0 for attempt in finished)
    assert Durations(database).expected("", ["t0", "t1", "t2"]) == pytest.approx([5.0, 5.0, 5.0])


def test_the_mean_fades_once_for_each_run_of_a_batch(service: Service, database: Database) -> None:
    durations = Durations(database)
    durations.observe([Observation(project="p", description="a", seconds=10.0)])
    durations.observe([Observation(project="p", description=name, seconds=20.0) for name in ("a", "a", "b")])
    expected = 10.0 * 0.49 + 20.0 * 0.51
    assert durations.expected("p", ["a", "b"]) == pytest.approx([expected, 20.0])


def test_history_knows_runs_that_say_something(
    service: Service, hand: MakeHand, take: Take, database: Database
) -> None:
    service.submit(job("one", "two", "three"))
    a = hand("a")
    for outcome, seconds in ((Outcome.SUCCEEDED, 4.0), (Outcome.TIMED_OUT, 1.0), (Outcome.SETUP_FAILED, 1.0)):
        entry = take()
        claim = a.claim(entry)
        a.finish(claim, outcome, duration_seconds=seconds)
    assert Durations(database).expected("", ["one", "two", "three"]) == [4.0, 60.0, None]


def test_the_two_projects_of_a_test_of_the_same_name_do_not_share_history(
    service: Service, hand: MakeHand, take: Take, database: Database
) -> None:
    service.submit(job("d", project="kudu"))
    a = hand("a")
    a.finish(a.claim(take()), duration_seconds=7.0)
    assert Durations(database).expected("kudu", ["d"]) == [7.0]
    assert Durations(database).expected("hadoop", ["d"]) == [None]


def test_retries_are_charged_and_few_stand_in_front(
    service: Service, hand: MakeHand, take: Take, database: Database
) -> None:
    descriptions = [f"t{number}" for number in range(20)]
    service.submit(job(*descriptions, max_retries=10))
    a = hand("a")
    for _ in descriptions:
        a.finish(a.claim(take()), Outcome.FAILED, exit_status=1)
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT priority FROM attempts WHERE attempt = 1")).scalars().all()
        share = connection.execute(text("SELECT finish_tag, retry_charge FROM fair_share")).one()
    boosted = [priority for priority in rows if priority < schedule.FIRST_BAND]
    assert len(boosted) == schedule.MIN_RETRIES_BOOSTED == 16
    assert share.finish_tag == 40 * schedule.UNKNOWN_SECONDS
    assert share.retry_charge == 16 * schedule.UNKNOWN_SECONDS


def test_every_step_is_an_event(service: Service, hand: MakeHand, take: Take, database: Database) -> None:
    service.submit(job("one", max_retries=1))
    a = hand("a")
    a.finish(a.claim(take()), Outcome.FAILED, exit_status=1)
    service.cancel("job", "enough")
    with database.engine.connect() as connection:
        kinds = connection.execute(text("SELECT kind FROM events ORDER BY event_id")).scalars().all()
    assert kinds == ["submitted", "enqueued", "claimed", "finished", "retried", "canceled"]
