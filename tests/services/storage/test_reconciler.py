"""What a crash leaves between two steps is mended, once, by the one who leads."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from dist_test.master.audit import Auditor
from dist_test.master.reconciler import Reconciler
from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from dist_test.model.task import AttemptKey, QueueEntry
from dist_test.settings import MasterSettings
from dist_test.storage.claims import Claim, Refusal
from dist_test.storage.database import Database
from dist_test.storage.entries import Queued
from dist_test.storage.leader import Leadership
from dist_test.storage.queue import Queue, Queues

from .conftest import Hand, job, rows_read, store_large_job

MakeHand = Callable[..., Hand]
Take = Callable[[], QueueEntry]


@pytest.fixture
def leader(master_database: Database) -> Iterator[Leadership]:
    """A candidate without a rival."""
    leader = Leadership(master_database, "reconciler")
    yield leader
    leader.resign()


@pytest.fixture
def reconciler(master_settings: MasterSettings, service: Service, queues: Queues, leader: Leadership) -> Reconciler:
    """Rounds by hand, which look at attempts of any age."""
    return Reconciler(replace(master_settings, queued_grace=timedelta(0)), service, queues, leader)


@pytest.fixture
def auditor(master_database: Database, queue: Queue) -> Auditor:
    """Audits without grace."""
    return Auditor(master_database, queue, grace=timedelta(0))


def _lose_entries(queue: Queue) -> int:
    lost = 0
    while (reservation := queue.reserve(timeout_seconds=0)) is not None:
        queue.finish(reservation)
        lost += 1
    return lost


def test_entries_that_were_lost_are_put_again_after_two_rounds(
    service: Service, reconciler: Reconciler, queue: Queue, auditor: Auditor
) -> None:
    record, _ = service.submit(job("one", "two"))
    _lose_entries(queue)
    assert len(auditor.audit(record.job_key).breaches) == 2
    assert [reconciler.round(), reconciler.round(), reconciler.round()] == [0, 2, 0]
    assert queue.statistics().ready == 2
    assert auditor.audit(record.job_key).breaches == ()


def test_an_entry_put_again_voids_one_that_turns_up_later(
    service: Service, reconciler: Reconciler, queue: Queue, take: Take, hand: MakeHand
) -> None:
    service.submit(job("one"))
    old = take()
    queue.close()  # gives the entry back
    _lose_entries(queue)
    reconciler.round()
    reconciler.round()
    new = take()
    assert (old.delivery, new.delivery) == (1, 2)
    assert hand("a").claims.claim(old) is Refusal.OVER
    assert isinstance(hand("b").claims.claim(new), Claim)


def test_another_beanstalkd_is_asked_about_everything_at_once(
    service: Service, reconciler: Reconciler, queue: Queue, database: Database
) -> None:
    service.submit(job("one"))
    reconciler.round()
    _lose_entries(queue)
    reconciler._server = "the one before"
    assert reconciler.round() == 1


def test_a_retry_that_nobody_asked_for_is_queued(
    service: Service, reconciler: Reconciler, hand: MakeHand, take: Take, queue: Queue
) -> None:
    service.submit(job("one", max_retries=1))
    a = hand("a")
    a.finish(a.claim(take()), Outcome.FAILED, exit_status=1)
    _lose_entries(queue)
    queue.close()
    _lose_entries(queue)
    assert [reconciler.round(), reconciler.round()] == [0, 1]
    assert take().key.attempt == 1


def test_junk_cannot_hide_a_loss_from_the_sweep(service: Service, reconciler: Reconciler, queue: Queue) -> None:
    service.submit(job("one"))
    _lose_entries(queue)
    queue.put("junk", priority=1)
    reconciler._settings = replace(reconciler._settings, sweep_every=reconciler._settings.reconcile_every)
    assert sum(reconciler.round() for _ in range(3)) == 1


def test_a_running_attempt_is_left_alone(
    service: Service, reconciler: Reconciler, hand: MakeHand, take: Take, queue: Queue
) -> None:
    service.submit(job("one"))
    hand("a").claim(take())
    queue.close()
    _lose_entries(queue)
    assert [reconciler.round() for _ in range(3)] == [0, 0, 0]


def test_what_a_silent_slave_still_holds_is_put_again(
    service: Service, reconciler: Reconciler, hand: MakeHand, take: Take, queue: Queue, let_lapse: Callable[[], None]
) -> None:
    service.submit(job("one"))
    frozen = hand("a")
    late = frozen.claim(take())
    assert reconciler.round() == 0, "its lease is alive"
    let_lapse()
    assert reconciler.round() == 1
    assert queue.statistics().ready == 1
    other = hand("b")
    entry = take()
    assert entry.delivery == 2
    other.finish(other.claim(entry))
    assert frozen.finish(late).counted == frozenset()


def test_a_submit_whose_master_died_after_storing_is_completed(
    service: Service, reconciler: Reconciler, queue: Queue, database: Database
) -> None:
    submission = service.submissions.begin(job("one", "two"))
    assert submission is not None
    service.submissions.store(submission, job("one", "two"))
    assert reconciler.round() == 0, "its master may still be alive"
    _lapse_submits(database)
    assert reconciler.round() == 1
    assert service.jobs.get("job").state == "running"
    assert queue.statistics().ready == 2


def test_a_submit_whose_tasks_were_never_stored_is_removed_in_the_end(
    service: Service, reconciler: Reconciler, database: Database
) -> None:
    service.submissions.begin(job("one"))
    _lapse_submits(database)
    assert reconciler.round() == 0, "its client may still repeat it"
    _lapse_submits(database, minutes=11)
    assert reconciler.round() == 1
    assert service.submit(job("other")) is not None


def _lapse_submits(database: Database, minutes: int = 1) -> None:
    statement = text("UPDATE jobs SET submit_lease_until = UTC_TIMESTAMP(6) - INTERVAL :minutes MINUTE")
    with database.engine.begin() as connection:
        connection.execute(statement, {"minutes": minutes})


def test_the_rest_of_a_job_with_too_many_failures_is_canceled(
    service: Service, reconciler: Reconciler, hand: MakeHand, take: Take
) -> None:
    service.submit(job("one", "two", "three", max_failed_tasks=0))
    a = hand("a")
    a.finish(a.claim(take()), Outcome.FAILED, exit_status=1)
    assert reconciler.round() == 1
    record = service.jobs.get("job")
    assert (record.result, record.cancel_reason) == ("canceled", "more than 0 tasks failed")


def test_only_one_of_two_masters_leads_and_the_other_takes_over(database: Database) -> None:
    first, second = Leadership(database, "test"), Leadership(database, "test")
    assert (first.holds(), second.holds(), first.holds()) == (True, False, True)
    first.resign()
    assert second.holds()
    second.resign()


def test_who_lost_the_lock_with_its_connection_knows(database: Database) -> None:
    first, second = Leadership(database, "test"), Leadership(database, "test")
    assert first.holds()
    assert first._connection is not None
    number = first._connection.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"KILL {number}")
    assert second.holds()
    assert not first.holds()
    second.resign()
    first.resign()


def test_a_leader_that_loses_the_lock_during_its_round_puts_nothing(
    service: Service,
    reconciler: Reconciler,
    leader: Leadership,
    master_database: Database,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service.submit(job("one", "two"))
    _lose_entries(queue)
    assert reconciler.round() == 0  # a shortfall counts when it is seen twice
    rival = Leadership(master_database, "reconciler")
    waiting = service.entries.waiting

    def lose_the_lock(*, older_than: timedelta) -> Iterator[list[Queued]]:
        leader.resign()
        assert rival.holds()
        return waiting(older_than=older_than)

    monkeypatch.setattr(service.entries, "waiting", lose_the_lock)
    assert reconciler.round() == 0
    assert queue.statistics().waiting_or_held == 0

    rival.resign()
    monkeypatch.undo()
    assert [reconciler.round(), reconciler.round()] == [0, 2], "it was still to be done"


def test_a_sweep_over_large_jobs_reads_each_attempt_a_few_times(service: Service, database: Database) -> None:
    sizes = {1: 500, 2: 50_000, 3: 500}
    for key, tasks in sizes.items():
        store_large_job(database, key, tasks)
    before = rows_read(database)
    swept = [item.entry.key for page in service.entries.waiting(older_than=timedelta(0)) for item in page]
    assert swept == [AttemptKey(key, task, 0) for key, tasks in sizes.items() for task in range(tasks)]
    assert rows_read(database) - before < 20 * sum(sizes.values())
