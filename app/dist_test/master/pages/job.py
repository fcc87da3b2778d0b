"""A job, its attempts and what they left."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from flask import Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from dist_test.errors import JobNotFound, ResultNotFound, ResultStoreUnavailable
from dist_test.master.auth import open_to_all
from dist_test.master.links import key_of, link, stored_bytes
from dist_test.master.log_excerpt import read_excerpt
from dist_test.master.original import METHODS
from dist_test.master.pages.blueprint import no_job, web
from dist_test.master.query import attempt_cursor, choice, cursor_of, page, required, whole_number
from dist_test.master.site import site
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT
from dist_test.model.task import AttemptKey
from dist_test.storage.jobs import AttemptFilter, AttemptRecord, JobRecord

ATTEMPTS_PER_PAGE = 100
SHOWN_BYTES = 16 * 2**10  # of the end of a log, where a test says what went wrong


@web.route("/job", methods=METHODS)
@open_to_all
def job() -> Response | str:
    try:
        record = site().service.jobs.get(required("job_id"))
    except JobNotFound:
        return no_job(required("job_id"))
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
