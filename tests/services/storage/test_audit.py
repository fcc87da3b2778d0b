"""An audit of what is right is clean; each thing that cannot be true is found and named, with what happened before."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from dist_test.errors import JobNotFound
from dist_test.master.audit import Auditor, Report, describe, ownerless_entries, run_audit
from dist_test.master.service import Service
from dist_test.model.group import Ending, History, ending
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.settings import MasterSettings
from dist_test.storage.audits import MOST_OF_A_KIND
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue

from .conftest import Hand, job

MakeHand = Callable[..., Hand]
Take = Callable[[], QueueEntry]
Change = Callable[..., None]
GRACE = timedelta(milliseconds=50)


@pytest.fixture
def auditor(master_database: Database, queue: Queue) -> Auditor:
    """Audits without grace, which look a second time at once."""
    return Auditor(master_database, queue, grace=timedelta(0), sleep=lambda _: None)


@pytest.fixture
def change(database: Database) -> Change:
    """Change rows behind everybody's back."""

    def execute(statement: str) -> None:
        with database.engine.begin() as connection:
            connection.execute(text(statement))

    return execute


@pytest.fixture
def ended(service: Service, hand: MakeHand, take: Take) -> int:
    """A job of one task, which failed and succeeded at its second try; the key of the job."""
    record, _ = service.submit(job("flaky", max_retries=1))
    a = hand("a")
    entry = take()
    claim = a.claim(entry)
    a.finish(claim, Outcome.FAILED, exit_status=1)
    service.retry("job", entry.task_id, 0, claim.number)
    a.finish(a.claim(take()))
    return record.job_key


def test_an_audit_of_what_ended_runs_and_waits_adds_up(
    service: Service, hand: MakeHand, take: Take, auditor: Auditor
) -> None:
    record, _ = service.submit(job("one", "two", "three", "four", max_retries=1))
    a = hand("a")
    a.finish(a.claim(take()))
    a.finish(a.claim(take()), Outcome.FAILED, exit_status=1)
    a.claim(take())
    report = auditor.audit(record.job_key)
    # The retry that its slave has not asked for is the one that is not in the queue.
    assert [breach.reason for breach in report.breaches] == ["it waits, but is not in the queue"]
    assert (report.tasks, report.ended, report.running, report.queued) == (4, 1, 1, 1)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE jobs SET finished_tasks = 0", "its counters are"),
        ("UPDATE jobs SET flaky_attempts = 7", "its counters are"),
        ("UPDATE jobs SET state = 'running'", "its state is running with 1 tasks finished"),
        ("DELETE FROM events WHERE kind = 'finished' AND attempt = 1", "it was finished 0 times, its outcome is succ"),
        (
            "INSERT INTO events (job_key, task_index, attempt, kind, actor, detail)"
            " SELECT job_key, task_index, attempt, kind, actor, detail FROM events WHERE kind = 'finished'",
            "it was finished 2 times, its outcome is failed",
        ),
        (
            "UPDATE attempts SET outcome = NULL, finished_at = NULL WHERE attempt = 1",
            "it was finished 1 times, its outcome is None",
        ),
        ("UPDATE attempts SET outcome = NULL WHERE attempt = 1", "its outcome is None, but it was finished at 20"),
        (
            "UPDATE events SET detail = 'failed' WHERE attempt = 1 AND kind = 'finished'",
            "it was finished as failed, its",
        ),
        ("UPDATE tasks SET max_retries = 0", "it ended failed for good, but attempt 1 followed"),
        ("UPDATE attempts SET outcome = 'succeeded' WHERE attempt = 0", "it ended succeeded for good, but attempt 1"),
        ("UPDATE attempts SET outcome = NULL WHERE attempt = 0", "it has not ended, but attempt 1 is there already"),
        ("DELETE FROM attempts WHERE attempt = 1", "it ended failed, and the next attempt is missing"),
        ("DELETE FROM attempts WHERE attempt = 1", "its events are there, but it has no row"),
        ("UPDATE attempts SET attempt = 2 WHERE attempt = 1", "attempt 1 is missing before it"),
        ("DELETE FROM attempts WHERE attempt = 0", "attempt 0 is missing before it"),
        ("DELETE FROM attempts", "its task has no attempt at all"),
        ("UPDATE attempts SET prior_failures = 0", "its row counts 0 failures and 0 failures of the setup before it"),
        (
            "UPDATE attempts SET prior_setup_failures = 1 WHERE attempt = 1",
            "its row counts 1 failures and 1 failures of",
        ),
        ("UPDATE attempts SET claim = 2 WHERE attempt = 1", "its claim is 2, its events tell of 1"),
        ("DELETE FROM events WHERE kind = 'claimed'", "its claim is 1, its events tell of 0"),
        ("DELETE FROM events WHERE kind = 'enqueued'", "it has no event that it was enqueued"),
    ],
)
def test_an_audit_names_what_cannot_be_true(
    statement: str, reason: str, ended: int, auditor: Auditor, change: Change
) -> None:
    assert str(auditor.audit(ended)) == "job: 1 tasks = 1 ended + 0 running + 0 queued: clean"
    change(statement)
    found = [breach.reason for breach in auditor.audit(ended).breaches]
    assert any(one.startswith(reason) for one in found), found


def test_a_breach_comes_with_its_chain_of_events(ended: int, auditor: Auditor, change: Change) -> None:
    change("UPDATE attempts SET claim = 2 WHERE attempt = 1")
    [breach] = auditor.audit(ended).breaches
    assert breach.key is not None
    assert breach.key.attempt == 1
    assert [event.kind for event in breach.chain] == ["retried", "claimed", "finished"]
    assert describe(breach.chain[1]).endswith(" claimed by a claim 1 delivery 1")


def test_a_canceled_job_without_the_event_is_found(service: Service, auditor: Auditor, change: Change) -> None:
    record, _ = service.submit(job("one"))
    service.cancel("job", "enough")
    assert auditor.audit(record.job_key).breaches == ()
    change("DELETE FROM events WHERE kind = 'canceled'")
    [breach] = auditor.audit(record.job_key).breaches
    assert breach.reason == "it has no event that it was canceled"


def test_a_lost_entry_is_found_and_not_counted_as_queued(service: Service, queue: Queue, auditor: Auditor) -> None:
    record, _ = service.submit(job("one", "two"))
    reservation = queue.reserve(timeout_seconds=0)
    assert reservation is not None
    queue.finish(reservation)
    report = auditor.audit(record.job_key)
    assert [breach.reason for breach in report.breaches] == ["it waits, but is not in the queue"]
    assert (report.tasks, report.queued) == (2, 1)


def test_a_void_entry_does_not_pass_for_the_present_one(service: Service, auditor: Auditor, change: Change) -> None:
    record, _ = service.submit(job("one"))
    change("UPDATE attempts SET delivery = 2")
    assert [breach.reason for breach in auditor.audit(record.job_key).breaches] == ["it waits, but is not in the queue"]


def test_a_lapsed_lease_whose_entry_nobody_else_can_have_is_found(
    service: Service, hand: MakeHand, take: Take, queue: Queue, master_database: Database, let_lapse: Callable[[], None]
) -> None:
    record, _ = service.submit(job("one"))
    looks: list[float] = []
    auditor = Auditor(master_database, queue, grace=GRACE, sleep=looks.append)
    hand("a").claim(take())
    assert auditor.audit(record.job_key).running == 1
    let_lapse()
    [breach] = auditor.audit(record.job_key).breaches
    assert breach.reason == "its lease ended more than 0.2 s ago, and its entry is held all the same"
    assert [event.kind for event in breach.chain] == ["claimed"]
    assert len(looks) == 1
    queue.close()  # gives the entry back: it is queued like any other
    report = auditor.audit(record.job_key)
    assert (report.queued, report.breaches) == (1, ())


def test_an_entry_that_is_taken_between_two_looks_is_no_breach(
    service: Service, hand: MakeHand, take: Take, queue: Queue, master_database: Database, let_lapse: Callable[[], None]
) -> None:
    record, _ = service.submit(job("one"))
    entry = take()
    hand("a").claim(entry)
    let_lapse()

    def claim(_: float) -> None:
        hand("b").claim(entry)

    auditor = Auditor(master_database, queue, grace=GRACE, sleep=claim)
    assert auditor.audit(record.job_key).breaches == ()


def test_a_job_that_is_being_submitted_has_nothing_to_be_found(
    service: Service, auditor: Auditor, change: Change, queue: Queue
) -> None:
    record, _ = service.submit(job("one"))
    change("UPDATE jobs SET state = 'submitting'")
    change("DELETE FROM attempts")
    assert auditor.audit(record.job_key).breaches == ()


def test_a_job_that_is_gone_is_not_found(auditor: Auditor) -> None:
    with pytest.raises(JobNotFound):
        auditor.audit(77)


def test_of_many_breaches_of_a_kind_a_hundred_are_named(service: Service, auditor: Auditor, change: Change) -> None:
    record, _ = service.submit(job(*["one"] * 150))
    change("UPDATE attempts SET claim = 1")
    reasons = [breach.reason for breach in auditor.audit(record.job_key).breaches]
    assert reasons.count("its claim is 1, its events tell of 0") == MOST_OF_A_KIND
    assert reasons[-1] == "there are more than the 100 named of the kind just before"


def test_of_many_lost_entries_a_hundred_are_named_and_all_counted(
    service: Service, auditor: Auditor, change: Change
) -> None:
    record, _ = service.submit(job(*["one"] * 150))
    change("UPDATE attempts SET delivery = 2")
    report = auditor.audit(record.job_key)
    assert (report.queued, len(report.breaches)) == (0, MOST_OF_A_KIND + 1)
    assert str(report).endswith(" + 0 queued + 150 unaccounted for: 101 breaches")
    assert report.breaches[-1].reason == "150 attempts in all wait, but are not in the queue"


def test_a_bounded_audit_says_what_it_takes_on_trust(service: Service, queue: Queue, master_database: Database) -> None:
    record, _ = service.submit(job(*["one"] * 30))
    report = Auditor(master_database, queue, grace=timedelta(0), most_asked=10).audit(record.job_key)
    assert (report.queued, report.unasked) == (30, 20)
    assert (
        str(report) == "job: 30 tasks = 0 ended + 0 running + 30 queued (20 of them not looked for in the queue): clean"
    )


def test_entries_that_no_attempt_owns_are_counted(service: Service, queue: Queue) -> None:
    service.submit(job("one", "two"))
    assert ownerless_entries(service.jobs, queue) == 0
    queue.put("junk", priority=1)
    assert ownerless_entries(service.jobs, queue) == 1


def test_the_command_prints_the_chain_and_exits_1(
    ended: int, master_settings: MasterSettings, change: Change, queue: Queue
) -> None:
    queue.close()  # gives back what it held: entries of what has ended, which a slave would have deleted
    while (reservation := queue.reserve(timeout_seconds=0)) is not None:
        queue.finish(reservation)
    said: list[str] = []
    assert run_audit(master_settings, None, said.append) == 0
    assert said == ["job: 1 tasks = 1 ended + 0 running + 0 queued: clean"]
    said.clear()
    change("DELETE FROM events WHERE kind = 'finished' AND attempt = 1")
    queue.put("junk", priority=1)
    assert run_audit(master_settings, "job", said.append) == 1
    assert said[0] == "job: 1 tasks = 1 ended + 0 running + 0 queued: 1 breach"
    assert said[1] == "  task 0 attempt 1: it was finished 0 times, its outcome is succeeded"
    assert [line.split()[2] for line in said[2:-1]] == ["retried", "claimed"]
    assert said[-1].startswith("1 entry in the queue is of no attempt")


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.CANCELED])
@pytest.mark.parametrize(("failures", "setup_failures"), [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 2)])
def test_the_rule_of_retries_is_the_same_in_sql(
    outcome: Outcome, failures: int, setup_failures: int, service: Service, auditor: Auditor, change: Change
) -> None:
    record, _ = service.submit(job("one", max_retries=2))
    change(
        f"UPDATE attempts SET outcome = '{outcome}', finished_at = UTC_TIMESTAMP(6),"  # noqa: S608 - our own text
        f" prior_failures = {failures}, prior_setup_failures = {setup_failures}"
    )
    before = History(failures=failures, setup_failures=setup_failures)
    is_due = ending(outcome, before, max_retries=2) is Ending.RETRY
    assert _misses_retry(auditor.audit(record.job_key)) == is_due


def _misses_retry(report: Report) -> bool:
    return any("the next attempt is missing" in breach.reason for breach in report.breaches)
