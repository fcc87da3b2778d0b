"""Pages of a job's attempts in any order, quick for a job of 100,000: rows are chosen by their keys, then read.

A page goes on after a place: the sort's value of the last attempt, and its key. Attempts without such a value (no
duration, no start) come last under every sort.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.mysql import DATETIME

from dist_test.model.outcome import Outcome
from dist_test.model.task import Task
from dist_test.storage.database import Database
from dist_test.storage.jobs import MAX_PAGE, AttemptFilter, AttemptRecord, attempt_keys, attempts_query, rows_of
from dist_test.storage.schema import AnyRow, attempts, tasks
from dist_test.storage.submissions import task_from_row


class AttemptSort(StrEnum):
    """The order of a list of attempts. Equal ones stand by task, then attempt."""

    TASK = "task"
    LONGEST = "longest"
    SHORTEST = "shortest"
    NEWEST = "newest"  # by start
    OLDEST = "oldest"
    OUTCOME = "outcome"  # what is worst first, successes last


class Place(NamedTuple):
    """Where a page ends. `value` is a number whose meaning is the sort's; None under AttemptSort.TASK."""

    value: float | int | None
    task: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class _Order:
    """How to sort: by `column`, whose value is never NULL, and what that value is in a record and in a Place."""

    column: ColumnElement[Any]
    is_descending: bool
    value_of: Callable[[AttemptRecord], float | int]
    bound: Callable[[float | int], ColumnElement[Any]] = literal


# What a missing value counts as, so that it comes last.
_NO_DURATION, _ENDLESS = -1.0, 1e18
_NEVER, _EPOCH = datetime(9999, 12, 31, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RANKS = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST, Outcome.SETUP_FAILED, Outcome.CANCELED)
_UNFINISHED_RANK, _SUCCEEDED_RANK = len(_RANKS), len(_RANKS) + 1


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _moment(microseconds: float) -> ColumnElement[datetime]:
    """Raises OverflowError for a time that no calendar has."""
    return _as_moment(_EPOCH + int(microseconds) * _MICROSECOND)


def _as_moment(time: datetime) -> ColumnElement[datetime]:
    # Without it COALESCE makes a text of the column, and texts of equal times differ.
    return cast(literal(time), DATETIME(fsp=6))


def _rank(attempt: AttemptRecord) -> int:
    if attempt.outcome is None:
        return _UNFINISHED_RANK
    return _SUCCEEDED_RANK if attempt.outcome is Outcome.SUCCEEDED else _RANKS.index(attempt.outcome)


_ORDERS = {
    AttemptSort.LONGEST: _Order(
        column=func.coalesce(attempts.c.duration_seconds, _NO_DURATION),
        is_descending=True,
        value_of=lambda attempt: _NO_DURATION if attempt.duration_seconds is None else attempt.duration_seconds,
    ),
    AttemptSort.SHORTEST: _Order(
        column=func.coalesce(attempts.c.duration_seconds, _ENDLESS),
        is_descending=False,
        value_of=lambda attempt: _ENDLESS if attempt.duration_seconds is None else attempt.duration_seconds,
    ),
    AttemptSort.NEWEST: _Order(
        column=func.coalesce(attempts.c.started_at, _as_moment(_EPOCH)),
        is_descending=True,
        value_of=lambda attempt: _microseconds(attempt.started_at or _EPOCH),
        bound=_moment,
    ),
    AttemptSort.OLDEST: _Order(
        column=func.coalesce(attempts.c.started_at, _as_moment(_NEVER)),
        is_descending=False,
        value_of=lambda attempt: _microseconds(attempt.started_at or _NEVER),
        bound=_moment,
    ),
    AttemptSort.OUTCOME: _Order(
        column=case(
            {outcome.value: rank for rank, outcome in enumerate(_RANKS)} | {Outcome.SUCCEEDED.value: _SUCCEEDED_RANK},
            value=attempts.c.outcome,
            else_=_UNFINISHED_RANK,
        ),
        is_descending=False,
        value_of=_rank,
    ),
}


def place_of(attempt: AttemptRecord, sort: AttemptSort) -> Place:
    """Where the list goes on after this attempt. PURE."""
    order = _ORDERS.get(sort)
    return Place(None if order is None else order.value_of(attempt), attempt.key.task, attempt.key.attempt)


class AttemptLists:
    """Reads what pages show of a job's attempts. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self,
        job_key: int,
        *,
        sort: AttemptSort = AttemptSort.TASK,
        only: AttemptFilter | None = None,
        search: str = "",
        after: Place | None = None,
        limit: int,
    ) -> list[AttemptRecord]:
        """Some attempts of a job. `search`: part of a description, or a slave's whole name.

        `after` is from `place_of` under the same sort. Raises OverflowError when it never was.
        """
        order = _ORDERS.get(sort)
        keys = attempt_keys(job_key, only, search).order_by(*_order_by(order)).limit(min(limit, MAX_PAGE))
        if after is not None:
            keys = keys.where(_is_after(order, after))
        rows = rows_of(keys, job_key).order_by(None).order_by(*_order_by(order))
        return [AttemptRecord.from_row(row) for row in self._all(rows)]

    def of_task(self, job_key: int, task_index: int) -> list[AttemptRecord]:
        """All attempts of a task in order; empty when there is no such task."""
        query = attempts_query(job_key).where(attempts.c.task_index == task_index)
        return [AttemptRecord.from_row(row) for row in self._all(query)]

    def task(self, job_key: int, task_index: int) -> Task | None:
        """A task as it was submitted; None when there is none."""
        rows = self._all(select(tasks).where(tasks.c.job_key == job_key, tasks.c.task_index == task_index))
        return task_from_row(rows[0]) if rows else None

    def tasks(self, job_key: int, indexes: Collection[int]) -> dict[int, Task]:
        """Some tasks as they were submitted, by their place in the job."""
        query = select(tasks).where(tasks.c.job_key == job_key, tasks.c.task_index.in_(indexes))
        return {row.task_index: task_from_row(row) for row in self._all(query)}

    def unsuccessful_tasks(self, job_key: int) -> list[Task]:
        """The tasks of which no attempt has succeeded, as they were submitted and in their order."""
        succeeded = select(attempts.c.task_index).where(
            attempts.c.job_key == job_key, attempts.c.outcome == Outcome.SUCCEEDED
        )
        query = select(tasks).where(tasks.c.job_key == job_key, tasks.c.task_index.not_in(succeeded))
        return [task_from_row(row) for row in self._all(query.order_by(tasks.c.task_index))]

    def _all(self, query: Select[Any]) -> Sequence[AnyRow]:
        return self._database.run(lambda connection: connection.execute(query).all())


_PLACE = (attempts.c.task_index, attempts.c.attempt)


def _order_by(order: _Order | None) -> list[ColumnElement[Any]]:
    if order is None:
        return list(_PLACE)
    return [order.column.desc() if order.is_descending else order.column.asc(), *_PLACE]


def _is_after(order: _Order | None, place: Place) -> ColumnElement[bool]:
    later = or_(
        attempts.c.task_index > place.task,
        and_(attempts.c.task_index == place.task, attempts.c.attempt > place.attempt),
    )
    if order is None or place.value is None:
        return later
    value = order.bound(place.value)
    beyond = order.column < value if order.is_descending else order.column > value
    return or_(beyond, and_(order.column == value, later))
