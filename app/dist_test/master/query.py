"""Read the parameters of a query, or say what is wrong with them. Everything here raises BadRequest."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar, overload

from flask import request
from werkzeug.exceptions import BadRequest

from dist_test.model.task import AttemptKey

Item = TypeVar("Item")
Choice = TypeVar("Choice", bound=StrEnum)

CURSOR = re.compile(r"([0-9]{1,9})\.([0-9]{1,5})")


class Cursor(NamedTuple):
    """A place in a job's list of attempts."""

    task: int
    attempt: int

    def in_job(self, job_key: int) -> AttemptKey:
        return AttemptKey(job_key, self.task, self.attempt)


def required(name: str) -> str:
    """A parameter of the query or of the form."""
    value = request.values.get(name)
    if value is None:
        raise BadRequest(f"{name} is missing")
    return value


@overload
def whole_number(name: str, *, default: int, low: int, high: int) -> int: ...
@overload
def whole_number(name: str, *, default: None, low: int, high: int) -> int | None: ...
def whole_number(name: str, *, default: int | None, low: int, high: int) -> int | None:
    """A whole number from `low` to `high`."""
    text = request.args.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > len(str(high)) or not low <= int(text) <= high:
        raise BadRequest(f"{name} is {text!r:.40}; give a whole number from {low} to {high}")
    return int(text)


def choice(name: str, choices: type[Choice]) -> Choice | None:
    """One of the choices; None when the parameter is missing or empty."""
    text = request.args.get(name)
    if not text:
        return None
    try:
        return choices(text)
    except ValueError:
        raise BadRequest(f"{name} is {text!r:.40}; give one of {', '.join(choices)}") from None


def attempt_cursor(name: str) -> Cursor | None:
    """A cursor that `cursor_of` made; None when the parameter is missing."""
    text = request.args.get(name)
    if text is None:
        return None
    match = CURSOR.fullmatch(text)
    if match is None:
        raise BadRequest(f"{name} is {text!r:.40}; give what an earlier answer said")
    return Cursor(int(match[1]), int(match[2]))


def cursor_of(key: AttemptKey) -> str:
    """The cursor that goes on after this attempt."""
    return f"{key.task}.{key.attempt}"


def page(items: Sequence[Item], limit: int) -> tuple[Sequence[Item], bool]:
    """The first `limit` of what was asked for with one more, and whether there was one more. PURE."""
    return items[:limit], len(items) > limit
