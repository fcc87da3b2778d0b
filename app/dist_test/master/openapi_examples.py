"""Examples of what the API answers, written by the code that writes the answers."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dist_test.master.audit import Breach, Report
from dist_test.master.audit_desk import Audit
from dist_test.master.documents import attempt_document, audit_document, job_document, slave_document
from dist_test.master.live import Encoding, LogPart, log_document
from dist_test.model.outcome import Outcome
from dist_test.model.summary import Counters
from dist_test.model.task import AttemptKey
from dist_test.storage.events import Event
from dist_test.storage.jobs import AttemptRecord, JobRecord
from dist_test.storage.slaves import Slave

JOB_ID = "nightly.ada.1795523126.7000-f37a"
HASH = "23f22a2727e78484eb891169652781ed0a6366d7"
_NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

NEW_JOB: dict[str, Any] = {
    "job_id": JOB_ID,
    "name": "nightly",
    "project": "hello",
    "owner": "ada",
    "max_failed_tasks": 20,
    "tasks": [
        {
            "isolate_hash": HASH,
            "description": "hello-test.0",
            "timeout": 600,
            "max_retries": 2,
            "artifact_archive_globs": ["build/**/*.xml"],
            "env": {"GTEST_SHARD_INDEX": "0"},
        }
    ],
}
CANCEL = {"reason": "the branch is gone"}


class _Links:
    """Links to nowhere."""

    def presign_get(self, key: str, *, seconds: int = 0, filename: str | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        return f"http://127.0.0.1:8333/results/{key}?X-Amz-Signature=..."


def job() -> dict[str, Any]:
    """A job that runs."""
    record = JobRecord(
        job_key=1,
        job_id=JOB_ID,
        name="nightly",
        project="hello",
        owner="ada",
        state="running",
        max_failed_tasks=20,
        submitted_at=_NOON,
        enqueued_at=_NOON + timedelta(milliseconds=31),
        finished_at=None,
        cancel_reason=None,
        counters=Counters(
            total_tasks=1, retrying_tasks=1, total_attempts=2, finished_attempts=1, retried_attempts=1, flaky_attempts=2
        ),
    )
    return job_document(record, root_url="http://127.0.0.1:8081", running_attempts=1, expected_seconds_left=12.5)


def _failed_attempt() -> AttemptRecord:
    return AttemptRecord(
        key=AttemptKey(1, 0, 0),
        task_id=f"{HASH}.0",
        description="hello-test.0",
        state="finished",
        outcome=Outcome.FAILED,
        exit_status=1,
        duration_seconds=9.25,
        slave_id="slave-1",
        claim=1,
        queued_at=_NOON,
        started_at=_NOON + timedelta(seconds=1),
        finished_at=_NOON + timedelta(seconds=10.5),
        message=None,
        logs_lost=False,
        prior_failures=0,
        stdout_bytes=120,
        stderr_bytes=None,
        artifact_bytes=None,
    )


def attempt() -> dict[str, Any]:
    """The first attempt of its task, which failed."""
    return attempt_document(JOB_ID, _failed_attempt(), _Links())


def log() -> dict[str, Any]:
    """The whole output of that attempt."""
    part = LogPart(
        attempt=_failed_attempt(),
        latest_attempt=1,
        stream="stdout",
        offset=0,
        data=b"expected 90, got 900\n",
        left_out_bytes=0,
        is_final=True,
        is_stored=True,
    )
    return log_document(part, Encoding.TEXT)


def audit() -> dict[str, Any]:
    """An audit of that job, which lacks a retry."""
    finished = Event(
        job=1,
        kind="finished",
        actor="slave-1",
        key=AttemptKey(1, 0, 0),
        claim=1,
        detail="failed",
        at=_NOON + timedelta(seconds=10.5),
    )
    breach = Breach(
        reason="it ended failed, and the next attempt is missing", key=AttemptKey(1, 0, 0), chain=(finished,)
    )
    report = Report(job_id=JOB_ID, tasks=1, ended=1, running=0, queued=0, unasked=0, breaches=(breach,))
    return audit_document(Audit(reports=(report,), left_out=(), ownerless=0))


def slave() -> dict[str, Any]:
    """A slave of one slot, at work."""
    record = Slave(
        slave_id="slave-1",
        instance_id="",
        zone="",
        mig="",
        template="",
        slots=1,
        version="0.1.0",
        busy=1,
        state="up",
        want="run",
        message="",
        idle_since=None,
        started_at=_NOON - timedelta(hours=1),
        heartbeat=_NOON,
        is_live=True,
        silent_for=timedelta(seconds=2.5),
    )
    return slave_document(record)
