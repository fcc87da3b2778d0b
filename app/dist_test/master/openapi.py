"""The description of `/api/v1`, `/stats` and `/healthz` for programs: OpenAPI 3.1, made of what the code itself knows.

tests/unit/master/test_openapi.py holds it against the routes, tests/services/master/test_openapi.py against answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from dist_test import __version__
from dist_test.master.failures import ERROR_STATUSES
from dist_test.master.openapi_schemas import SCHEMAS, Schema, of
from dist_test.master.server import MAX_REQUEST_LINE

DIGEST = "digest"
JSON = "application/json"
ABOUT = """\
Reading is open to everybody. What changes something needs HTTP Digest credentials, or an address that the operator has
allowed. A 503 has the header Retry-After: asking again is safe. Times are ISO 8601 in UTC, with microseconds."""
ERROR_MEANINGS: Mapping[str, str] = {
    "invalid_job": "the job, or a task's queue entry, is not what the format allows",
    "invalid_request": "the body or a parameter is not",
    "unauthorized": "no credentials, wrong ones, or a nonce that is used up; the challenge then says `stale=true`, and "
    "clients repeat with the new nonce",
    "forbidden": "another site, or a browser's GET",
    "not_found": "no such job, task, attempt or path",
    "method_not_allowed": "the path does not know this method",
    "conflict": "a job with this id is there already, with other tasks",
    "job_not_running": "the job has ended, or is still being submitted",
    "job_not_rerun": "the job has not ended yet, or no task of it failed",
    "too_large": "the body is longer than `master.max_body_bytes`, or the job is too large for an audit while you wait",
    "submit_in_progress": "this job is being submitted by another request; ask again",
    "audit_in_progress": "this master audits for somebody else; ask again",
    "unavailable": "the database, the queue or the S3 server does not answer",
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of the path or the query. Those of the query may be left out."""

    name: str
    place: str
    about: str
    schema: Schema
    example: Any


@dataclass(frozen=True, kw_only=True)
class Content:
    """A body: the name of its schema, and an example."""

    schema: str
    example: Any
    is_required: bool = True


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer that is no error. `following`: operations that take `job_id` from it."""

    about: str
    content: Content | None = None
    following: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a program can ask for. `errors` are the codes that it may be answered with, beside the database's outage."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    about: str
    answers: Mapping[int, Answer]
    parameters: Sequence[Parameter] = ()
    body: Content | None = None
    errors: Sequence[str] = ("unavailable",)
    is_open: bool = True


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dist_test", "version": __version__, "description": ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {DIGEST: {"type": "http", "scheme": "digest", "description": "realm dist_test"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.about,
        "responses": {
            **{str(status): _answer(answer) for status, answer in operation.answers.items()},
            **_failures(operation.errors),
        },
    }
    if operation.parameters:
        # The server's own answer: such a request reaches no application.
        found["responses"]["414"] = {
            "description": f"the request's first line is longer than {MAX_REQUEST_LINE:,} bytes",
            "content": {"text/html": {}},
        }
        found["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        found["requestBody"] = {"required": operation.body.is_required, "content": _content(operation.body)}
    if not operation.is_open:
        # The empty one: from an allowed address.
        found["security"] = [{DIGEST: []}, {}]
    return found


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.about,
        "schema": parameter.schema,
        "example": parameter.example,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.about}
    if answer.content is not None:
        found["content"] = _content(answer.content)
    if answer.following:
        found["links"] = {
            name: {"operationId": name, "parameters": {"job_id": "$response.body#/job_id"}} for name in answer.following
        }
    return found


def _content(content: Content) -> dict[str, Any]:
    return {JSON: {"schema": of(content.schema), "example": content.example}}


def _failures(codes: Sequence[str]) -> dict[str, Any]:
    """The errors by their status, each with the meanings of its codes."""
    found: dict[str, Any] = {}
    for status in sorted({ERROR_STATUSES[code] for code in codes}):
        meanings = [f"`{code}`: {ERROR_MEANINGS[code]}" for code in codes if ERROR_STATUSES[code] == status]
        found[str(status)] = {
            "description": "; ".join(meanings),
            "content": {JSON: {"schema": of("Error")}},
            **_failure_headers(HTTPStatus(status)),
        }
    return found


def _failure_headers(status: HTTPStatus) -> dict[str, Any]:
    named = {
        HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", {"type": "string"}),
        HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After", {"type": "integer"}),
    }.get(status)
    return {} if named is None else {"headers": {named[0]: {"required": True, "schema": named[1]}}}
