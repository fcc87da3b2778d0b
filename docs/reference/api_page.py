"""The part of http-api.md that the description of the API knows: errors, operations, the JSON of both."""

import json
from collections.abc import Iterable, Iterator

from dist_test.master.failures import ERROR_STATUSES
from dist_test.master.openapi import ERROR_MEANINGS, Content, Operation, Parameter
from dist_test.master.openapi_operations import OPERATIONS
from dist_test.master.openapi_page import kind, rows
from dist_test.master.openapi_schemas import SCHEMAS

# These have a page of their own.
ELSEWHERE = {"NewJob": "job-json.md#the-job", "NewTask": "job-json.md#a-task"}
ERRORS = """\
## Errors

On `/api/v1`, `/stats`, `/healthz` and `/metrics`:

```json
{"error": {"code": "invalid_job", "message": "tasks[3].timeout is -5; give a whole number from 0 to 604800"}}
```"""
TIMES = """\
A 503 has the header `Retry-After`. Times are ISO 8601 in UTC with microseconds, such as `2026-11-24T12:00:00.000000Z`.
Parameters that nobody knows are not looked at. A request whose first line is longer than 4,094 bytes is answered 414,
without JSON."""
OPERATIONS_INTRODUCTION = """\
## Operations

A master serves this as OpenAPI 3.1 at `GET /api/v1/openapi.json`, and as a page with examples and curl commands at
`/api/v1/`."""
OBJECTS_INTRODUCTION = """\
## Objects

Answers have all these keys. Later versions may add some."""


def api_parts() -> Iterator[str]:
    """The parts of the section, in order."""
    yield ERRORS
    yield "\n".join(_table(("status", "`code`", "when"), (
        (str(ERROR_STATUSES[code]), f"`{code}`", meaning) for code, meaning in ERROR_MEANINGS.items()
    )))  # fmt: skip
    yield TIMES
    yield OPERATIONS_INTRODUCTION
    for operation in OPERATIONS:
        yield from _operation(operation)
    yield OBJECTS_INTRODUCTION
    for name, schema in SCHEMAS.items():
        if name not in ELSEWHERE:
            yield f"### {name}"
            yield f"{schema['description']}"
            yield "\n".join(_table(("key", "value", "meaning"), (
                (f"`{row.name}`", _linked(row.kind, row.link), row.about) for row in rows(schema)
            )))  # fmt: skip


def _operation(operation: Operation) -> Iterator[str]:
    yield f"### `{operation.method} {operation.path.replace('{', '<').replace('}', '>')}`"
    who = "" if operation.is_open else " Needs an account or an allowed address."
    yield f"{operation.summary}. {operation.about}{who}"
    if operation.parameters:
        yield "\n".join(_table(("parameter", "value", "default", "meaning"), map(_parameter, operation.parameters)))
    yield "\n".join(_lines(operation))


def _parameter(parameter: Parameter) -> tuple[str, ...]:
    default = parameter.schema.get("default", "")
    return (f"`{parameter.name}`", kind(parameter.schema), str(default), parameter.about)


def _lines(operation: Operation) -> Iterator[str]:
    if operation.body is not None:
        needed = "" if operation.body.is_required else ", or none"
        yield f"- Body: {_content(operation.body)}{needed}"
    for status, answer in operation.answers.items():
        shown = "" if answer.content is None else f": {_content(answer.content)}"
        yield f"- {status}, {answer.about}{shown}"
    if operation.errors:
        yield f"- Errors: {', '.join(f'`{code}`' for code in operation.errors)}"


def _content(content: Content) -> str:
    example = json.dumps(content.example)
    shown = f", such as `{example}`" if len(example) < 60 else ""
    return f"[{content.schema}]({_target(content.schema)}){shown}"


def _linked(words: str, name: str | None) -> str:
    return words if name is None else f"[{words}]({_target(name)})"


def _target(name: str) -> str:
    return ELSEWHERE.get(name, f"#{name.lower()}")


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for line in (head, ("---",) * len(head), *lines):
        yield f"| {' | '.join(line)} |"
