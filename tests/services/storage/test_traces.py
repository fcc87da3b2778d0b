"""Who ran what when in a job."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from dist_test.model.task import AttemptKey
from dist_test.storage.database import Database
from dist_test.storage.jobs import JobRecord, Jobs
from dist_test.storage.traces import COMMIT_MICROSECONDS, Span, Traces

SECOND = 1_000_000
AGO = 1000  # seconds since the submit
Write = Callable[..., None]


@pytest.fixture
def job(database: Database) -> JobRecord:
    """A job that was submitted AGO."""
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO jobs (job_key, job_id, name, project, owner, fingerprint, state, period, first_tag,"
                " weight, submitted_at, total_tasks, total_attempts) VALUES (7, 'job', '', '', '', REPEAT('0', 64),"
                " 'running', 1, 0, 1, UTC_TIMESTAMP(6) - INTERVAL :ago SECOND, 0, 0)"
            ),
            {"ago": AGO},
        )
    return Jobs(database).get("job")


@pytest.fixture
def traces(database: Database) -> Traces:
    """What is tested."""
    return Traces(database)


@pytest.fixture
def write(database: Database, job: JobRecord) -> Write:
    """Write an attempt; times are seconds after the submit."""

    def write(
        task: int,
        attempt: int = 0,
        *,
        start: float | None = None,
        end: float | None = None,
        outcome: str | None = "succeeded",
        slave: str = "s1",
        lease: int = 60,
    ) -> None:
        values = {"task": task, "attempt": attempt, "start": start, "end": end, "slave": slave, "lease": lease}
        values |= {"outcome": outcome if end is not None else None}
        with database.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT IGNORE INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds,"
                    " max_retries, expected_seconds) VALUES (7, :task, 'aa', CONCAT('Test', :task), 0, 2, 4)"
                ),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO attempts (job_key, task_index, attempt, queued_at, has_started, slave_id, started_at,"
                    " finished_at, outcome, lease_until) SELECT 7, :task, :attempt, submitted_at + INTERVAL 1 SECOND,"
                    " :start IS NOT NULL, IF(:start IS NULL, NULL, :slave), submitted_at + INTERVAL :start SECOND,"
                    " submitted_at + INTERVAL :end SECOND, :outcome, IF(:start IS NULL, NULL, UTC_TIMESTAMP(6) +"
                    " INTERVAL :lease SECOND) FROM jobs WHERE job_key = 7"
                ),
                values,
            )

    return write


def keys(spans: list[Span]) -> list[tuple[int, int]]:
    """Which attempts these are."""
    return [(span.task, span.attempt) for span in spans]


def test_times_are_microseconds_since_the_submit(job: JobRecord, traces: Traces, write: Write) -> None:
    write(0, start=2.5, end=4)

    (span,) = traces.page(job, limit=10)

    assert (span.queued, span.started, span.ended) == (SECOND, 2_500_000, 4 * SECOND)
    assert (span.task_id, span.description, span.slave_id, span.state) == ("aa.0", "Test0", "s1", "succeeded")
    assert AGO * SECOND <= traces.now(job) < (AGO + 60) * SECOND


def test_states_tell_who_waits_and_who_runs(job: JobRecord, traces: Traces, write: Write) -> None:
    write(0)
    write(1, start=2)
    write(2, start=2, lease=-1)
    write(3, start=2, end=3, outcome="timed_out")

    assert [span.state for span in traces.page(job, limit=10)] == ["waiting", "running", "waiting", "timed_out"]


def test_pages_go_on_after_an_attempt(job: JobRecord, traces: Traces, write: Write) -> None:
    for task in range(3):
        for attempt in range(2):
            write(task, attempt, start=task, end=9)

    first = traces.page(job, limit=3)
    second = traces.page(job, after=AttemptKey(job.job_key, first[-1].task, first[-1].attempt), limit=9)

    assert keys(first + second) == [(task, attempt) for task in range(3) for attempt in range(2)]


def test_pages_by_start_miss_nothing_that_began_at_one_moment(job: JobRecord, traces: Traces, write: Write) -> None:
    for task, start in enumerate([5, 3, 5, 3, 5]):
        write(task, start=start, end=9)
    write(9)
    found: list[Span] = []
    while page := traces.by_start(job, after=found[-1] if found else None, limit=2):
        found += page

    assert keys(found) == [(1, 0), (3, 0), (0, 0), (2, 0), (4, 0)]


def test_changes_are_what_runs_what_has_ended_since_and_the_retries_that_wait(
    job: JobRecord, traces: Traces, write: Write
) -> None:
    write(0, start=1, end=100)
    write(1, start=1, end=500)
    write(2, start=1)
    write(3)
    write(4, 1)

    changed = traces.changes(job, since=300 * SECOND)

    assert sorted(keys(changed)) == [(1, 0), (2, 0), (4, 1)]


def test_an_end_that_was_committed_late_is_still_told(job: JobRecord, traces: Traces, write: Write) -> None:
    write(0, start=1, end=300)

    assert keys(traces.changes(job, since=300 * SECOND + COMMIT_MICROSECONDS - 1)) == [(0, 0)]
    assert keys(traces.changes(job, since=300 * SECOND + COMMIT_MICROSECONDS)) == []


def test_slaves_are_listed_with_what_they_did(job: JobRecord, traces: Traces, write: Write, database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO slaves (slave_id, slots, state, started_at, heartbeat, version)"
                " VALUES ('s1', 8, 'up', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), '1')"
            )
        )
    write(0, start=1, end=3)
    write(1, start=2, end=6)
    write(2, start=AGO - 10, slave="s2")
    write(3)

    first, second = traces.slaves(job)

    assert (first.slave_id, first.slots, first.attempts, first.busy_seconds) == ("s1", 8, 2, 6.0)
    assert (first.first_start, first.last_start) == tuple(_at(job, seconds) for seconds in (1, 2))
    assert first.last_end == _at(job, 6)
    assert (second.slave_id, second.slots, second.last_end) == ("s2", None, None)
    assert 10 <= second.busy_seconds < 60


def test_what_ended_at_a_moment_is_found(job: JobRecord, traces: Traces, write: Write) -> None:
    write(0, start=1, end=3)
    write(1, start=2, end=6)

    last = traces.ended_at(job, _at(job, 6))

    assert last is not None
    assert (last.description, last.slave_id, last.expected_seconds) == ("Test1", "s1", 4.0)
    assert (last.started_at, last.finished_at) == (_at(job, 2), _at(job, 6))
    assert traces.ended_at(job, datetime(2026, 1, 1, tzinfo=UTC)) is None


def _at(job: JobRecord, seconds: float) -> datetime:
    return job.submitted_at + timedelta(seconds=seconds)
