"""A job and its attempts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from dist_test.errors import JobNotFound, ResultNotFound
from dist_test.master.auth import open_to_all
from dist_test.master.links import link
from dist_test.master.live import StreamName
from dist_test.master.original import METHODS
from dist_test.master.pages.attempt import MAX_ATTEMPT, asked_attempt
from dist_test.master.pages.blueprint import no_job, web
from dist_test.master.pages.listing import Listing
from dist_test.master.pages.log import LogView, view_of
from dist_test.master.query import choice, required, whole_number
from dist_test.master.site import site
from dist_test.model.rerun import rerun_id, rerun_of
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT
from dist_test.storage.attempt_lists import AttemptSort
from dist_test.storage.jobs import AttemptFilter, AttemptRecord, JobRecord


@web.route("/job", methods=METHODS)
@open_to_all
def job() -> Response | str:
    try:
        record = site().service.jobs.get(required("job_id"))
    except JobNotFound:
        return no_job(required("job_id"))
    listing = Listing.asked(record.job_id)
    attempts, more = listing.read(site().service.attempts, record.job_key)
    return render_template(
        "job.html",
        **_progress(record),
        **_reruns(record),
        attempts=attempts,
        tasks=site().service.attempts.tasks(record.job_key, {attempt.key.task for attempt in attempts}),
        listing=listing,
        states=list(AttemptFilter),
        sorts=AttemptSort,
        shown=_shown_log(record, attempts),
        next=listing.cursor_after(attempts[-1]) if more else None,
        isolate_server=site().isolate_server,
    )


def _progress(record: JobRecord) -> Mapping[str, Any]:
    seconds_left = site().forecast.seconds_left(record)
    running = 0 if record.state == "finished" else site().service.jobs.running(record.job_key)
    return {
        "job": record,
        "seconds_left": seconds_left,
        "expected_end": None if seconds_left is None else datetime.now(UTC) + timedelta(seconds=seconds_left),
        "running": running,
        # Two statements: an attempt may end between them.
        "queued": max(0, record.counters.unfinished_attempts - running),
    }


def _reruns(record: JobRecord) -> Mapping[str, str | None]:
    """The ids of the job of which this is the rerun, and of this job's own: None for what is not there."""
    earlier, later = rerun_of(record.job_id), rerun_id(record.job_id)
    return {
        "rerun_of": earlier if earlier is not None and _is_there(earlier) else None,
        "rerun": later if record.state == "finished" and _is_there(later) else None,
    }


def _is_there(job_id: str) -> bool:
    try:
        site().service.jobs.get(job_id)
    except JobNotFound:
        return False
    return True


def _shown_log(record: JobRecord, attempts: Sequence[AttemptRecord]) -> LogView | None:
    """The log that was asked for, if its attempt is on this page of the list."""
    name, number = choice("log", StreamName), whole_number("attempt", default=0, low=0, high=MAX_ATTEMPT)
    for attempt in attempts if name else ():
        if name and (attempt.task_id, attempt.key.attempt) == (request.args.get("task_id"), number):
            return view_of(record.job_id, attempt, name)
    return None


@web.get("/download")
@open_to_all
def download() -> AnyResponse:
    """Send the browser to what an attempt has stored. Pages have no signed links: signing takes too long."""
    attempt, name = asked_attempt(), required("name")
    url = link(site().results, required("job_id"), attempt, name) if name in (STDOUT, STDERR, ARTIFACTS) else None
    if url is None:
        raise ResultNotFound(f"no {name} was stored of {attempt.task_id} attempt {attempt.key.attempt}")
    return redirect(url)
