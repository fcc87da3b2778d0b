"""The paths of Cloudera's original, as its clients know them (compatibility.md 1 and 8).

They take GET and POST, parameters from the query or a form, and answer 200 for what the original thought of as an
answer: an unknown job is one.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request
from werkzeug.exceptions import BadRequest

from dist_test.errors import JobNotFound, JobNotRunning, SubmitInProgress, TaskNotFound, shown
from dist_test.master.api import canceled_by
from dist_test.master.auth import current_owner, open_to_all
from dist_test.master.links import key_of, link, stored_bytes
from dist_test.master.log_excerpt import read_excerpt
from dist_test.master.query import required
from dist_test.master.site import Site, site
from dist_test.model.job import parse_original_job
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT
from dist_test.storage.jobs import AttemptFilter, AttemptRecord, JobRecord, Jobs

original = Blueprint("original", __name__)

PAGE = 1000
METHODS = ["GET", "POST"]
_STATUSES = {
    "failed": AttemptFilter.FAILED,
    "succeeded": AttemptFilter.SUCCEEDED,
    "finished": AttemptFilter.FINISHED,
}
_LINKS = {"stdout_link": STDOUT, "stderr_link": STDERR, "artifact_archive_link": ARTIFACTS}


@original.route("/submit_job", methods=METHODS)
def submit_job() -> Response:
    job = parse_original_job(required("job_id"), required("job_json"))
    site().service.submit(replace(job, owner=current_owner(job.owner)))
    return _success()


@original.route("/cancel_job", methods=METHODS)
def cancel_job() -> Response:
    job_id = required("job_id")
    try:
        site().service.cancel(job_id, canceled_by())
    except JobNotFound:
        return _success()
    except JobNotRunning as exc:
        # It has ended, which is as good; or it is about to begin, and the client should ask again.
        if site().service.jobs.get(job_id).state == "submitting":
            raise SubmitInProgress(str(exc)) from exc
    return _success()


@original.route("/retry_task", methods=METHODS)
def retry_task() -> Response:
    """Queue the attempt after a failed one. For the slave that held the failed attempt's claim."""
    names = _retried(required("task_json"))
    site().service.retry(names["job_id"], names["task_id"], names["attempt"], names["claim"])
    return _success()


@original.route("/job_status", methods=METHODS)
@open_to_all
def job_status() -> Response:
    job_id = required("job_id")
    try:
        return jsonify(status_document(site().service.jobs.get(job_id)))
    except JobNotFound:
        return jsonify({"error": f"Did not fetch any tasks for specified job_id {job_id}"})


@original.route("/tasks", methods=METHODS)
@open_to_all
def tasks() -> Response:
    return _list_tasks(required("job_id"), request.values.get("status"))


@original.route("/failed_tasks", methods=METHODS)
@open_to_all
def failed_tasks() -> Response:
    return _list_tasks(required("job_id"), "failed")


@original.route("/view_log", methods=METHODS)
@open_to_all
def view_log() -> str:
    name = required("log")
    attempt = _find(required("job_id"), required("task_id"), required("attempt"))
    if attempt is None:
        return render_template("message.html", title="Log", message="Could not find requested task")
    if name not in (STDOUT, STDERR):
        return render_template("message.html", title="Log", message="Unknown log type")
    return _log_page(required("job_id"), attempt, name)


def _retried(task_json: str) -> dict[str, Any]:
    """job_id, task_id, attempt and claim of a failed attempt. Raises BadRequest."""
    try:
        document = json.loads(task_json)
    except (RecursionError, ValueError) as exc:
        raise BadRequest(f"task_json is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise BadRequest("task_json is not a JSON object")
    for name, kind in {"job_id": str, "task_id": str, "attempt": int, "claim": int}.items():
        if type(document.get(name)) is not kind:
            raise BadRequest(f"task_json.{name} is {shown(document.get(name))}; only the slave that ran it may ask")
    return document


def _success() -> Response:
    return jsonify({"status": "SUCCESS"})


def status_document(job: JobRecord) -> dict[str, Any]:
    """The answer of /job_status: the original calls attempts tasks, and tasks groups. PURE."""
    counters = job.counters
    return {
        "total_tasks": counters.total_attempts,
        "finished_tasks": counters.finished_attempts,
        "running_tasks": counters.unfinished_attempts,
        "retried_tasks": counters.retried_attempts,
        "timedout_tasks": counters.timed_out_attempts,
        "failed_tasks": counters.failed_attempts,
        "succeeded_tasks": counters.succeeded_attempts,
        "flaky_tasks": counters.flaky_attempts,
        "total_groups": counters.total_tasks,
        "finished_groups": counters.finished_tasks,
        "failed_groups": counters.failed_tasks,
        "succeeded_groups": counters.succeeded_tasks,
        "flaky_groups": counters.flaky_tasks + counters.retrying_tasks,
        "status": "finished" if job.state == "finished" else "running",
        "state": job.state,
        "reason": job.cancel_reason,
    }


def _list_tasks(job_id: str, status: str | None) -> Response:
    if status is not None and status not in _STATUSES:
        return jsonify({"error": f"Unknown status type {status}"})
    here = site()
    try:
        job = here.service.jobs.get(job_id)
    except JobNotFound:
        return jsonify([])
    pages = attempt_pages(here.service.jobs, job.job_key, _STATUSES.get(status or ""))
    # The first page before the answer begins, so that a failure can still be told.
    first = next(pages, [])
    return Response(_task_list(here, job_id, first, pages), content_type="application/json")


def attempt_pages(jobs: Jobs, job_key: int, only: AttemptFilter | None) -> Iterator[list[AttemptRecord]]:
    """All attempts of a job, a page in memory at a time."""
    after = None
    while found := jobs.attempts(job_key, only=only, after=after, limit=PAGE):
        yield found
        after = found[-1].key


def _task_list(
    here: Site, job_id: str, first: list[AttemptRecord], others: Iterator[list[AttemptRecord]]
) -> Iterator[str]:
    yield "[" + ",".join(_task_text(here, job_id, attempt) for attempt in first)
    for found in others:
        yield "," + ",".join(_task_text(here, job_id, attempt) for attempt in found)
    yield "]"


def _task_text(here: Site, job_id: str, attempt: AttemptRecord) -> str:
    document: dict[str, Any] = {
        "task_id": attempt.task_id,
        "attempt": attempt.key.attempt,
        "description": attempt.description,
    }
    # Keys of what is not there are absent, not null.
    for key, name in _LINKS.items():
        if url := link(here.results, job_id, attempt, name):
            document[key] = url
    return json.dumps(document)


def _find(job_id: str, task_id: str, attempt: str) -> AttemptRecord | None:
    if not attempt.isascii() or not attempt.isdigit() or len(attempt) > 5:
        return None
    try:
        return site().service.find_attempt(job_id, task_id, int(attempt))
    except (JobNotFound, TaskNotFound):
        return None


def _log_page(job_id: str, attempt: AttemptRecord, name: str) -> str:
    size = stored_bytes(attempt, name)
    excerpt = None
    if size is not None:
        excerpt = read_excerpt(site().results, key_of(job_id, attempt, name), size)
    return render_template("view_log.html", job_id=job_id, attempt=attempt, name=name, excerpt=excerpt)
