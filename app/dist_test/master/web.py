"""The pages for people: plain HTML, without scripts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from dist_test.errors import JobNotFound, ResultNotFound, ResultStoreUnavailable
from dist_test.master.auth import open_to_all
from dist_test.master.links import key_of, link, stored_bytes
from dist_test.master.log_excerpt import read_excerpt
from dist_test.master.original import METHODS, attempt_pages
from dist_test.master.overview import count_fleet
from dist_test.master.query import attempt_cursor, choice, cursor_of, page, required, whole_number
from dist_test.master.site import site
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT
from dist_test.model.task import AttemptKey
from dist_test.storage.jobs import AttemptFilter, AttemptRecord, JobRecord

web = Blueprint("web", __name__)

JOBS_PER_PAGE = 50
ATTEMPTS_PER_PAGE = 100
SHOWN_BYTES = 16 * 2**10  # of the end of a log, where a test says what went wrong
_MICROSECOND = timedelta(microseconds=1)


@web.route("/", methods=METHODS)
@open_to_all
def home() -> str:
    here = site()
    slaves = here.service.slaves.all()
    before = whole_number("before", default=None, low=0, high=2**63 - 1)
    jobs, more = page(here.service.jobs.recent(limit=JOBS_PER_PAGE + 1, before=before), JOBS_PER_PAGE)
    return render_template(
        "home.html",
        work=here.overview.work(),
        fleet=count_fleet(slaves),
        slaves=slaves,
        jobs=jobs,
        is_first_page=before is None,
        next=jobs[-1].job_key if more else None,
    )


@web.route("/job", methods=METHODS)
@open_to_all
def job() -> Response | str:
    try:
        record = site().service.jobs.get(required("job_id"))
    except JobNotFound:
        return _no_job(required("job_id"))
    only, search, after = choice("state", AttemptFilter), request.args.get("q", ""), attempt_cursor("after")
    key = after and after.in_job(record.job_key)
    rows = site().service.jobs.attempts(
        record.job_key, only=only, search=search, after=key, limit=ATTEMPTS_PER_PAGE + 1
    )
    attempts, more = page(rows, ATTEMPTS_PER_PAGE)
    return render_template(
        "job.html",
        job=record,
        attempts=attempts,
        seconds_left=site().forecast.seconds_left(record),
        states=list(AttemptFilter),
        state=only,
        search=search,
        shown=_shown_log(record, attempts),
        is_first_page=after is None,
        after=request.args.get("after"),
        next=cursor_of(attempts[-1].key) if more else None,
    )


class LogName(StrEnum):
    """Which log to show."""

    STDOUT = STDOUT
    STDERR = STDERR


@dataclass(frozen=True, kw_only=True)
class ShownLog:
    """The end of a log that the job page shows below its attempt."""

    key: AttemptKey
    name: str
    text: str


def _shown_log(job: JobRecord, attempts: Sequence[AttemptRecord]) -> ShownLog | None:
    """The log that was asked for, if it was stored by an attempt on this page of the list."""
    name, number = choice("log", LogName), whole_number("attempt", default=0, low=0, high=2**15)
    wanted = [item for item in attempts if (item.task_id, item.key.attempt) == (request.args.get("task_id"), number)]
    size = stored_bytes(wanted[0], name) if name and wanted else None
    if name is None or size is None:
        return None
    try:
        stream = site().results.open(key_of(job.job_id, wanted[0], name))
        excerpt = read_excerpt(stream, size, head_bytes=0, tail_bytes=SHOWN_BYTES)
    except (ResultNotFound, ResultStoreUnavailable) as exc:
        # The rest of the page is no worse for it.
        return ShownLog(key=wanted[0].key, name=name, text=f"It cannot be read: {exc}")
    return ShownLog(key=wanted[0].key, name=name, text=excerpt.head + excerpt.tail)


@web.get("/download")
@open_to_all
def download() -> AnyResponse:
    """Send the browser to what an attempt has stored. Pages have no signed links: signing takes too long."""
    job_id, name = required("job_id"), required("name")
    number = whole_number("attempt", default=0, low=0, high=2**15)
    attempt = site().service.find_attempt(job_id, required("task_id"), number)
    url = link(site().results, job_id, attempt, name) if name in (STDOUT, STDERR, ARTIFACTS) else None
    if url is None:
        raise ResultNotFound(f"no {name} was stored of {attempt.task_id} attempt {number}")
    return redirect(url)


@web.route("/trace", methods=METHODS)
@open_to_all
def trace() -> Response | str:
    try:
        record = site().service.jobs.get(required("job_id"))
    except JobNotFound:
        return _no_job(required("job_id"))
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


def _no_job(job_id: str) -> Response:
    text = f"No tasks found for specified job_id {job_id}"
    return Response(render_template("message.html", title="Job", message=text), status=404)


@web.app_template_filter("moment")
def _moment(time: Any) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


@web.app_template_filter("duration")
def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


@web.app_template_filter("standing")
def standing(attempt: AttemptRecord) -> str:
    """How an attempt stands, in a word or two."""
    if attempt.outcome is None:
        return attempt.state
    if attempt.outcome is Outcome.FAILED and attempt.exit_status is not None:
        return f"failed ({attempt.exit_status})"
    return attempt.outcome.value.replace("_", " ")


@web.app_template_filter("stored")
def _stored(attempt: AttemptRecord) -> Mapping[str, int]:
    sizes = {name: stored_bytes(attempt, name) for name in (STDOUT, STDERR, ARTIFACTS)}
    return {name: size for name, size in sizes.items() if size is not None}


@web.app_template_filter("isolate_hash")
def _isolate_hash(task_id: str) -> str:
    return task_id.rpartition(".")[0]
