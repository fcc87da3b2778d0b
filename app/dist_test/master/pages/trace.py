"""Who ran what when in a job: the page, the columns that its script draws, and the download for other viewers."""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from flask import Response, render_template, request, stream_with_context
from werkzeug.exceptions import BadRequest

from dist_test.errors import JobNotFound
from dist_test.master.auth import open_to_all
from dist_test.master.original import METHODS
from dist_test.master.pages.blueprint import no_job, web
from dist_test.master.pages.filters import about
from dist_test.master.query import attempt_cursor, required, whole_number
from dist_test.master.site import site
from dist_test.model.outcome import Outcome
from dist_test.model.trace import Event, Slots, queue_events, run_event, wait_events
from dist_test.storage.attempt_lists import AttemptSort
from dist_test.storage.jobs import JobRecord
from dist_test.storage.traces import LastEnd, SlaveShare, Span, Traces

SPANS_PER_ANSWER = 10_000
SLOWEST = 100
# Each wait is drawn by itself, beside the length of the queue: of more than so many, nobody could see one.
MOST_WAITS = 10_000
STATES = ("waiting", "running", *Outcome)
_MICROSECONDS_PER_MILLISECOND = 1000
_LONGEST_MICROSECONDS = 10**15  # thirty years
_TABLES = "<!-- tables -->"  # where they go in trace.html; what people write there is escaped
# A tail is worth a word when the slots stood idle for so much of the job, and for so long.
_TAIL_SHARE, _TAIL_SECONDS = 0.2, 10.0


@web.route("/trace", methods=METHODS)
@open_to_all
def trace() -> Response:
    try:
        job = site().service.jobs.get(required("job_id"))
    except JobNotFound:
        return no_job(required("job_id"))
    return Response(stream_with_context(_page(job)), content_type="text/html; charset=utf-8")


def _page(job: JobRecord) -> Iterator[str]:
    """The page: first what needs no counting, which browsers show at once."""
    before, after = render_template("trace.html", job=job, states=STATES).split(_TABLES)
    yield before
    shares = site().service.traces.slaves(job)
    yield render_template(
        "trace_tables.html",
        job=job,
        shares=shares,
        seconds=_seconds(job, shares),
        tail=tail_of(job.submitted_at, shares, _last_end(job, shares)),
        slowest=site().service.attempts.page(job.job_key, sort=AttemptSort.LONGEST, limit=SLOWEST),
    )
    yield after


def _seconds(job: JobRecord, shares: Sequence[SlaveShare]) -> float:
    """From the first start to the end of the job, or to now."""
    if not shares:
        return 0.0
    now = site().service.traces.now(job) / 1e6
    first = (min(share.first_start for share in shares) - job.submitted_at).total_seconds()
    end = now if job.finished_at is None else (job.finished_at - job.submitted_at).total_seconds()
    return max(end - first, 0.001)


def _last_end(job: JobRecord, shares: Sequence[SlaveShare]) -> LastEnd | None:
    ends = [share.last_end for share in shares if share.last_end is not None]
    return site().service.traces.ended_at(job, max(ends)) if ends and job.finished_at is not None else None


def tail_of(submitted_at: datetime, shares: Sequence[SlaveShare], last: LastEnd | None) -> str | None:
    """Why the end of a job took long: what ended last, and since when nothing was left to start. None if it did not.

    PURE.
    """
    if last is None:
        return None
    last_start = max(share.last_start for share in shares)
    tail = (last.finished_at - last_start).total_seconds()
    share = tail / max((last.finished_at - submitted_at).total_seconds(), 0.001)
    if tail < _TAIL_SECONDS or share < _TAIL_SHARE:
        return f"{last.description} ended last, on {last.slave_id}."
    ran = (last.finished_at - last.started_at).total_seconds()
    expected = "it was new" if last.expected_seconds is None else f"{about(last.expected_seconds)} were expected"
    return (
        f"{last.description} ended last, on {last.slave_id}: it ran for {about(ran)}, {expected}. Nothing was left to"
        f" start for the last {about(tail)}, {share:.0%} of the job."
    )


@web.get("/trace/attempts")
@open_to_all
def trace_attempts() -> Response:
    """Columns of attempts. After `after`, a page of all; with `since`, what has changed since an answer's `now`."""
    job = site().service.jobs.get(required("job_id"))
    traces, cursor = site().service.traces, attempt_cursor("after")
    since = whole_number("since", default=None, low=0, high=_LONGEST_MICROSECONDS)
    if since is not None and cursor is not None:
        raise BadRequest("after and since exclude each other; give one of them")
    # Before the rows: what changes while they are read shall be asked for again.
    now = traces.now(job)
    if since is not None:
        found, following = traces.changes(job, since=since), None
    else:
        after = None if cursor is None else cursor.in_job(job.job_key)
        found = traces.page(job, after=after, limit=SPANS_PER_ANSWER)
        following = f"{found[-1].task}.{found[-1].attempt}" if len(found) == SPANS_PER_ANSWER else None
    document = {"now": now, "is_live": job.state != "finished", "next": following, **columns(found)}
    return _packed(json.dumps(document, separators=(",", ":")))


def columns(spans: Sequence[Span]) -> dict[str, Any]:
    """The spans by columns, which are a third of the text of rows; times in milliseconds since the submit. PURE."""
    slaves = sorted({span.slave_id for span in spans if span.slave_id is not None})
    places = {name: place for place, name in enumerate(slaves)}
    codes = {state: code for code, state in enumerate(STATES)}
    return {
        "states": STATES,
        "slaves": slaves,
        "task": [span.task for span in spans],
        "attempt": [span.attempt for span in spans],
        "test": [span.description for span in spans],
        "slave": [None if span.slave_id is None else places[span.slave_id] for span in spans],
        "state": [codes[span.state] for span in spans],
        "queued": [_milliseconds(span.queued) for span in spans],
        "started": [_milliseconds(span.started) for span in spans],
        "ended": [_milliseconds(span.ended) for span in spans],
    }


def _milliseconds(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds // _MICROSECONDS_PER_MILLISECOND


def _packed(text: str) -> Response:
    """JSON, compressed for whoever can read that: ten thousand names of tests are much alike."""
    response = Response(text, content_type="application/json")
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"]:
        response.set_data(gzip.compress(text.encode(), compresslevel=1))
        response.content_encoding = "gzip"
    return response


@web.get("/trace.json")
@open_to_all
def trace_events() -> Response:
    job = site().service.jobs.get(required("job_id"))
    events = events_of(job.job_id, _by_start(site().service.traces, job), now=site().service.traces.now(job))
    response = Response(_event_list(events), content_type="application/json")
    filename = re.sub(r"[^\w.-]", "_", job.job_id)
    response.headers.set("Content-Disposition", "attachment", filename=f"{filename}.trace.json")
    return response


def _by_start(traces: Traces, job: JobRecord) -> Iterator[Span]:
    last = None
    while found := traces.by_start(job, after=last, limit=SPANS_PER_ANSWER):
        yield from found
        last = found[-1]


def events_of(job_id: str, spans: Iterator[Span], *, now: int) -> Iterator[Event]:
    """The trace events of what has run or runs, given in the order of the starts. PURE."""
    slots = Slots()
    waits: list[tuple[int, int]] = []
    for span in spans:
        if span.started is None or span.slave_id is None or span.state == "waiting":
            continue
        end = max(now if span.ended is None else span.ended, span.started)
        place = slots.place(span.slave_id, span.started, end)
        yield from slots.names(span.slave_id, *place)
        args = {"job_id": job_id, "task_id": span.task_id, "attempt": span.attempt, "outcome": span.state}
        args |= {"slave": span.slave_id, "waited_seconds": (span.started - span.queued) / 1e6}
        yield run_event(span.description, span.state, place=place, start=span.started, end=end, args=args)
        if len(waits) < MOST_WAITS:
            wait_id = f"{span.task}.{span.attempt}"
            yield from wait_events(span.description, wait_id, queued=span.queued, started=span.started)
        waits.append((span.queued, span.started))
    yield from queue_events(waits)


def _event_list(events: Iterator[Event]) -> Iterator[str]:
    between = '{"traceEvents":['
    for event in events:
        yield between + json.dumps(event)
        between = ","
    yield "]}" if between == "," else between + "]}"
