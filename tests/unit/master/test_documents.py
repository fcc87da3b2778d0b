"""Jobs and attempts as clients see them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from dist_test.master.documents import job_document, moment
from dist_test.master.original import status_document
from dist_test.master.pages.filters import standing
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import result_key
from dist_test.model.summary import Counters
from dist_test.model.task import AttemptKey
from dist_test.storage.jobs import AttemptRecord, JobRecord

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)

JOB = JobRecord(
    job_key=1,
    job_id="demo.ann.1700000000.1",
    name="demo",
    project="demo",
    owner="ann",
    state="running",
    max_failed_tasks=None,
    submitted_at=NOON,
    enqueued_at=NOON + timedelta(microseconds=1),
    finished_at=None,
    cancel_reason=None,
    counters=Counters(
        total_tasks=10,
        finished_tasks=6,
        succeeded_tasks=4,
        failed_tasks=2,
        flaky_tasks=1,
        retrying_tasks=1,
        total_attempts=13,
        finished_attempts=9,
        succeeded_attempts=4,
        timed_out_attempts=1,
        retried_attempts=3,
        flaky_attempts=4,
    ),
)
ATTEMPT = AttemptRecord(
    key=AttemptKey(1, 3, 1),
    task_id=f"{'a' * 40}.3",
    description="FooTest.testBar",
    state="finished",
    outcome=Outcome.FAILED,
    exit_status=3,
    duration_seconds=1.5,
    slave_id="slave-1",
    claim=2,
    queued_at=NOON,
    started_at=NOON + timedelta(seconds=2),
    finished_at=NOON + timedelta(seconds=3.5),
    message=None,
    logs_lost=False,
    prior_failures=0,
    stdout_bytes=1,
    stderr_bytes=None,
    artifact_bytes=None,
)


def test_times_always_have_microseconds_and_say_that_they_are_utc() -> None:
    assert moment(NOON) == "2026-01-02T12:00:00.000000Z"
    assert datetime.fromisoformat(moment(NOON) or "") == NOON
    assert moment(None) is None


def test_the_originals_status_calls_attempts_tasks_and_tasks_groups() -> None:
    assert status_document(JOB) == {
        "total_tasks": 13,
        "finished_tasks": 9,
        "running_tasks": 4,
        "retried_tasks": 3,
        "timedout_tasks": 1,
        "failed_tasks": 5,
        "succeeded_tasks": 4,
        "flaky_tasks": 4,
        "total_groups": 10,
        "finished_groups": 6,
        "failed_groups": 2,
        "succeeded_groups": 4,
        "flaky_groups": 2,
        "status": "running",
        "state": "running",
        "reason": None,
    }


def test_a_job_that_is_being_submitted_runs_as_far_as_the_original_is_concerned() -> None:
    assert status_document(replace(JOB, state="submitting"))["status"] == "running"
    assert status_document(replace(JOB, state="finished"))["status"] == "finished"


def test_a_job_names_its_page() -> None:
    document = job_document(
        replace(JOB, job_id="a+b"), root_url="http://master:8081", running_attempts=2, expected_seconds_left=1.5
    )

    assert document["url"] == "http://master:8081/job?job_id=a%2Bb"
    assert document["counters"]["failed_attempts"] == 5
    assert (document["running_attempts"], document["expected_seconds_left"]) == (2, 1.5)


def test_how_an_attempt_stands_is_said_in_words() -> None:
    assert standing(ATTEMPT) == "failed (3)"
    assert standing(replace(ATTEMPT, outcome=Outcome.SETUP_FAILED)) == "setup failed"
    assert standing(replace(ATTEMPT, outcome=None, state="queued")) == "queued"


def test_every_claim_has_a_place_of_its_own_for_its_logs() -> None:
    assert result_key("job", "aa.0", 1, 2, "stdout") == "job/aa.0/1/2/stdout"
    assert result_key("job", "aa.0", 1, 3, "stdout") != result_key("job", "aa.0", 1, 2, "stdout")
