"""Who ran what when in a job."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from flask import Response, render_template

from dist_test.errors import JobNotFound
from dist_test.master.auth import open_to_all
from dist_test.master.original import METHODS, attempt_pages
from dist_test.master.pages.blueprint import no_job, web
from dist_test.master.query import required
from dist_test.master.site import site
from dist_test.storage.jobs import AttemptFilter, AttemptRecord, JobRecord

_MICROSECOND = timedelta(microseconds=1)


@web.route("/trace", methods=METHODS)
@open_to_all
def trace() -> Response | str:
    try:
        record = site().service.jobs.get(required("job_id"))
    except JobNotFound:
        return no_job(required("job_id"))
    return render_template("trace.html", job=record)


@web.get("/trace.json")
@open_to_all
def trace_events() -> Response:
    record = site().service.jobs.get(required("job_id"))
    pages = attempt_pages(site().service.jobs, record.job_key, AttemptFilter.FINISHED)
    response = Response(_event_list(record, pages), content_type="application/json")
    response.headers.set("Content-Disposition", "attachment", filename=f"{record.job_id}.trace.json")
    return response


def trace_event(job: JobRecord, attempt: AttemptRecord) -> dict[str, Any] | None:
    """An attempt as a complete event of the trace-event format; None when it never ran. Times in microseconds. PURE."""
    if attempt.started_at is None or attempt.finished_at is None:
        return None
    return {
        "cat": "run",
        "ph": "X",
        "name": attempt.description,
        "pid": attempt.slave_id,
        "ts": (attempt.started_at - job.submitted_at) // _MICROSECOND,
        "dur": (attempt.finished_at - attempt.started_at) // _MICROSECOND,
        "args": {"task_id": attempt.task_id, "attempt": attempt.key.attempt, "outcome": attempt.outcome},
    }


def _event_list(job: JobRecord, pages: Iterator[list[AttemptRecord]]) -> Iterator[str]:
    between = '{"traceEvents":['
    for found in pages:
        for event in filter(None, (trace_event(job, attempt) for attempt in found)):
            yield between + json.dumps(event)
            between = ","
    yield "]}" if between == "," else between + "]}"
