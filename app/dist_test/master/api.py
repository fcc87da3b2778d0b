"""`/api/v1`: strict JSON. docs/reference/http-api.md describes it."""

import json
import re
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import BadRequest

from dist_test.master.auth import current_owner, open_to_all
from dist_test.master.documents import (
    Document,
    attempt_document,
    audit_document,
    job_document,
    slave_document,
)
from dist_test.master.live import Encoding, StreamName, log_document
from dist_test.master.query import attempt_cursor, choice, cursor_of, page, whole_number
from dist_test.master.site import site
from dist_test.model.job import parse_job
from dist_test.storage.jobs import AttemptFilter, JobRecord

api = Blueprint("api", __name__, url_prefix="/api/v1")

MAX_JOBS = 500
MAX_ATTEMPTS = 5000
MAX_REASON_CHARACTERS = 500
MAX_SEARCH_CHARACTERS = 200  # a request line has room for as many, each as four bytes in percent signs
MAX_JOB_CURSOR = 10**18 - 1
MAX_ATTEMPT = 2**15
MAX_OFFSET = 2**53  # what any reader of JSON keeps exactly
# One line: no control characters, no ends of lines, nothing that turns the text around it.
REASON = re.compile(rf"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]{{0,{MAX_REASON_CHARACTERS}}}")


@api.post("/jobs")
def submit() -> Response:
    job = parse_job(_body())
    record, is_new = site().service.submit(replace(job, owner=current_owner(job.owner)))
    response = jsonify(_document(record))
    response.status_code = 201 if is_new else 200
    return response


@api.get("/jobs")
@open_to_all
def jobs() -> Response:
    limit = whole_number("limit", default=50, low=1, high=MAX_JOBS)
    before = whole_number("before", default=None, low=0, high=MAX_JOB_CURSOR)
    found, more = page(site().service.jobs.recent(limit=limit + 1, before=before), limit)
    return jsonify({"jobs": [_document(job) for job in found], "next": str(found[-1].job_key) if more else None})


@api.get("/jobs/<job_id>")
@open_to_all
def job(job_id: str) -> Response:
    return jsonify(_document(site().service.jobs.get(job_id)))


@api.post("/jobs/<job_id>/cancel")
def cancel(job_id: str) -> Response:
    body = _body() if request.content_length or request.is_json else {}
    if not isinstance(body, dict) or set(body) - {"reason"}:
        raise BadRequest('give a JSON object with nothing but "reason", or no body')
    reason = body.get("reason")
    if reason is not None and not is_reason(reason):
        raise BadRequest(f"reason must be one line of at most {MAX_REASON_CHARACTERS} characters")
    return jsonify(_document(site().service.cancel(job_id, reason or canceled_by())))


@api.post("/jobs/<job_id>/rerun")
def rerun(job_id: str) -> Response:
    if (request.content_length or request.is_json) and _body() != {}:
        raise BadRequest("give an empty JSON object, or no body")
    record, is_new = site().service.rerun(job_id, current_owner(""))
    response = jsonify(_document(record))
    response.status_code = 201 if is_new else 200
    return response


@api.get("/jobs/<job_id>/attempts")
@open_to_all
def attempts(job_id: str) -> Response:
    limit = whole_number("limit", default=1000, low=1, high=MAX_ATTEMPTS)
    only, after = choice("state", AttemptFilter), attempt_cursor("after")
    service = site().service
    record = service.jobs.get(job_id)
    search = request.args.get("q", "")
    if len(search) > MAX_SEARCH_CHARACTERS:
        raise BadRequest(f"q has {len(search)} characters; the limit is {MAX_SEARCH_CHARACTERS}")
    rows = service.jobs.attempts(
        record.job_key, only=only, search=search, after=after and after.in_job(record.job_key), limit=limit + 1
    )
    found, more = page(rows, limit)
    documents = [attempt_document(job_id, attempt, site().results) for attempt in found]
    return jsonify({"attempts": documents, "next": cursor_of(found[-1].key) if more else None})


@api.get("/jobs/<job_id>/tasks/<task>/log")
@open_to_all
def log(job_id: str, task: str) -> Response:
    part = site().live.read(
        job_id,
        task,
        stream=choice("stream", StreamName) or StreamName.STDOUT,
        attempt=whole_number("attempt", default=None, low=0, high=MAX_ATTEMPT),
        offset=whole_number("offset", default=0, low=0, high=MAX_OFFSET),
    )
    return jsonify(log_document(part, choice("encoding", Encoding) or Encoding.TEXT))


@api.get("/audit")
@open_to_all
def audit() -> Response:
    job_id = request.args.get("job_id", "")
    return jsonify(audit_document(site().audits.one(job_id) if job_id else site().audits.all()))


@api.get("/slaves")
@open_to_all
def slaves() -> Response:
    return jsonify({"slaves": [slave_document(slave) for slave in site().service.slaves.all()]})


def canceled_by() -> str:
    """The reason of a cancel that gives none."""
    return f"canceled by {current_owner(request.remote_addr or 'somebody')}"


def is_reason(value: Any) -> bool:
    """Whether this can be the reason of a cancel. PURE."""
    if not isinstance(value, str) or not REASON.fullmatch(value):
        return False
    # A lone surrogate is no character: JSON can spell it, the database cannot.
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _document(job: JobRecord) -> Document:
    is_finished = job.state == "finished"
    return job_document(
        job,
        root_url=request.host_url.rstrip("/"),
        running_attempts=0 if is_finished else site().service.jobs.running(job.job_key),
        expected_seconds_left=site().forecast.seconds_left(job),
    )


def _body() -> Any:
    """The JSON of the body. Raises BadRequest."""
    # A page of another site can send text or a form without asking, JSON it cannot.
    if not request.is_json:
        raise BadRequest("send JSON, with the header Content-Type: application/json")
    try:
        return json.loads(request.get_data(cache=False))
    except RecursionError as exc:
        raise BadRequest("the body is nested too deeply") from exc
    except ValueError as exc:  # not JSON, not UTF-8, or a number of thousands of digits
        raise BadRequest(f"the body is not JSON: {exc}") from exc
