"""Jobs, attempts and slaves as the JSON of `/api/v1` shows them."""

from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from dist_test.master.audit import Report
from dist_test.master.audit_desk import Audit
from dist_test.master.links import LinkSigner, link
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT
from dist_test.storage.events import Event
from dist_test.storage.jobs import AttemptRecord, JobRecord
from dist_test.storage.slaves import Slave

Document = dict[str, Any]


def job_document(
    job: JobRecord, *, root_url: str, running_attempts: int, expected_seconds_left: float | None
) -> Document:
    """A job. `root_url` is the master's address without a slash at its end."""
    return {
        "job_id": job.job_id,
        "name": job.name,
        "project": job.project,
        "owner": job.owner,
        "state": job.state,
        "result": job.result,
        "submitted_at": moment(job.submitted_at),
        "enqueued_at": moment(job.enqueued_at),
        "finished_at": moment(job.finished_at),
        "promoted_at": moment(job.promoted_at),
        "cancel_reason": job.cancel_reason,
        "max_failed_tasks": job.max_failed_tasks,
        "url": f"{root_url}/job?{urlencode({'job_id': job.job_id})}",
        "expected_seconds_left": expected_seconds_left,
        "running_attempts": running_attempts,
        "counters": asdict(job.counters) | {"failed_attempts": job.counters.failed_attempts},
    }


def attempt_document(job_id: str, attempt: AttemptRecord, results: LinkSigner) -> Document:
    """An attempt, with links that work for a day."""
    return {
        "task_id": attempt.task_id,
        "attempt": attempt.key.attempt,
        "description": attempt.description,
        "state": attempt.state,
        "outcome": attempt.outcome,
        "exit_status": attempt.exit_status,
        "status": attempt.status,
        "duration_seconds": attempt.duration_seconds,
        "slave_id": attempt.slave_id,
        "queued_at": moment(attempt.queued_at),
        "started_at": moment(attempt.started_at),
        "finished_at": moment(attempt.finished_at),
        "message": attempt.message,
        "logs_lost": attempt.logs_lost,
        "stdout_url": link(results, job_id, attempt, STDOUT),
        "stderr_url": link(results, job_id, attempt, STDERR),
        "artifacts_url": link(results, job_id, attempt, ARTIFACTS),
    }


def slave_document(slave: Slave) -> Document:
    """A slave. `silent_seconds` have passed since its last heartbeat."""
    fields = asdict(slave)
    fields["silent_seconds"] = round(fields.pop("silent_for").total_seconds(), 3)
    return {name: moment(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def audit_document(audit: Audit) -> Document:
    """What an audit found."""
    return {
        "is_clean": audit.is_clean,
        "jobs": [_report_document(report) for report in audit.reports],
        "left_out": list(audit.left_out),
        "ownerless_entries": audit.ownerless,
    }


def _report_document(report: Report) -> Document:
    return {
        "job_id": report.job_id,
        "tasks": report.tasks,
        "ended": report.ended,
        "running": report.running,
        "queued": report.queued,
        "unasked": report.unasked,
        "breaches": [
            {
                "reason": breach.reason,
                "task": None if breach.key is None else breach.key.task,
                "attempt": None if breach.key is None else breach.key.attempt,
                "events": [_event_document(event) for event in breach.chain],
            }
            for breach in report.breaches
        ],
    }


def _event_document(event: Event) -> Document:
    return {
        "at": moment(event.at),
        "kind": event.kind,
        "actor": event.actor,
        "claim": event.claim,
        "delivery": event.delivery,
        "detail": event.detail,
    }


def moment(time: datetime | None) -> str | None:
    """A UTC time of the database in ISO 8601, always with microseconds."""
    return None if time is None else f"{time:%Y-%m-%dT%H:%M:%S.%fZ}"
