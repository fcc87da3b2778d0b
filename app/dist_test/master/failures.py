"""What a request is told when it fails: in JSON on the APIs, each in its own shape, and as a page elsewhere."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flask import Flask, Response, jsonify, render_template, request
from werkzeug.exceptions import BadRequest, HTTPException, default_exceptions

from dist_test.errors import (
    AuditInProgress,
    AuditTooLarge,
    DatabaseUnavailable,
    DistTestError,
    InvalidJob,
    JobConflict,
    JobNotFound,
    JobNotRerun,
    JobNotRunning,
    QueueEntryTooBig,
    QueueUnavailable,
    ResultNotFound,
    ResultStoreUnavailable,
    SlaveNotFound,
    SubmitInProgress,
    TaskNotFound,
)

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 1
ORIGINAL_JSON_PATHS = frozenset(("/submit_job", "/cancel_job", "/retry_task", "/job_status", "/tasks", "/failed_tasks"))
_JSON_PATHS = frozenset(("/stats", "/healthz", "/metrics"))

_ERRORS: Mapping[type[DistTestError], tuple[int, str]] = {
    InvalidJob: (400, "invalid_job"),
    QueueEntryTooBig: (400, "invalid_job"),
    JobNotFound: (404, "not_found"),
    TaskNotFound: (404, "not_found"),
    ResultNotFound: (404, "not_found"),
    SlaveNotFound: (404, "not_found"),
    JobConflict: (409, "conflict"),
    JobNotRunning: (409, "job_not_running"),
    JobNotRerun: (409, "job_not_rerun"),
    AuditTooLarge: (413, "too_large"),
    SubmitInProgress: (503, "submit_in_progress"),
    AuditInProgress: (503, "audit_in_progress"),
}
# What they say names hosts and accounts: it is for the log, not for whoever asks.
_OUTAGES: Mapping[type[DistTestError], str] = {
    DatabaseUnavailable: "the database does not do its work at the moment; ask again",
    QueueUnavailable: "the queue does not answer at the moment; ask again",
    ResultStoreUnavailable: "the store of logs and artifacts does not answer at the moment; ask again",
}
_CODES = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}
_UNAVAILABLE = "unavailable"
# What each code comes with. HTTP's other errors bear their own names.
ERROR_STATUSES: Mapping[str, int] = {
    **{code: status for status, code in _CODES.items()},
    **{code: status for status, code in _ERRORS.values()},
    _UNAVAILABLE: 503,
}
_KEPT_HEADERS = ("WWW-Authenticate", "Allow")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """`code` is a word for programs, `message` a sentence for people."""

    status: int
    code: str
    message: str


def register(app: Flask) -> None:
    """Answer every error of the application as the path's own clients understand it."""
    for kind, (status, code) in _ERRORS.items():
        app.register_error_handler(kind, _refusal(status, code))
    for kind, message in _OUTAGES.items():
        app.register_error_handler(kind, _outage(message))
    app.register_error_handler(HTTPException, _http_failure)


def answer(failure: Failure) -> Response:
    """The failure in the shape that belongs to the request's path."""
    response = _shaped(failure)
    response.status_code = failure.status
    if failure.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _shaped(failure: Failure) -> Response:
    if request.path in ORIGINAL_JSON_PATHS:
        return jsonify({"status": "ERROR", "error": failure.message})
    if request.path.startswith("/api/") or request.path in _JSON_PATHS:
        return jsonify({"error": {"code": failure.code, "message": failure.message}})
    # For a Host that cannot be one, Flask makes no addresses, which a page is full of.
    if isinstance(request.routing_exception, BadRequest):
        return Response(failure.message, content_type="text/plain; charset=utf-8")
    return Response(render_template("failure.html", failure=failure))


def _refusal(status: int, code: str) -> Callable[[Exception], Response]:
    return lambda exc: answer(Failure(status=status, code=code, message=str(exc)))


def _outage(message: str) -> Callable[[Exception], Response]:
    def tell(exc: Exception) -> Response:
        logger.warning("Cannot answer %r: %s", request.path, exc, extra={"action": "outage"})
        return answer(Failure(status=503, code=_UNAVAILABLE, message=message))

    return tell


def _http_failure(exc: HTTPException) -> Response:
    status = exc.code or 500
    message = exc.description or exc.name
    # Werkzeug's own sentences are for people at a browser: long, and silent about what to do.
    if exc.description == default_exceptions.get(status, HTTPException).description:
        message = _own_words(status, exc.name)
    response = answer(
        Failure(status=status, code=_CODES.get(status, exc.name.lower().replace(" ", "_")), message=message)
    )
    for name, value in exc.get_headers(request.environ):
        if name in _KEPT_HEADERS:
            response.headers.add(name, value)
    return response


def _own_words(status: int, name: str) -> str:
    if status == 404:
        return f"there is nothing at {request.path}"
    if status == 405:
        return f"{request.path} does not know {request.method}"
    if status == 413:
        return "the request is larger than master.max_body_bytes; split the job"
    if status == 500:
        return "the master has failed to answer; its log says why"
    return name
