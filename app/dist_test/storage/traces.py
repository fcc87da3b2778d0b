"""Who ran what when in a job: rows of what a timeline draws, read by the ten thousand, and sums by slave.

Times are whole microseconds since the job's submit, which the database works out: it is quicker at it than we are.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text

from dist_test.model.task import AttemptKey, task_id
from dist_test.storage.database import Database
from dist_test.storage.jobs import JobRecord
from dist_test.storage.schema import AnyRow, attempts, slaves, tasks

# A finish is seen when its transaction ends, some time after the moment that it wrote down.
COMMIT_MICROSECONDS = 5_000_000
_MICROSECOND = timedelta(microseconds=1)


class Span(NamedTuple):
    """An attempt on a timeline. started is None until it was claimed, ended until it was over; it may end unstarted.

    `state` is waiting, running, or the outcome. A slave that fell silent leaves its attempt waiting, with a start.
    """

    task: int
    attempt: int
    isolate_hash: str
    description: str
    slave_id: str | None
    state: str
    queued: int
    started: int | None
    ended: int | None

    @property
    def task_id(self) -> str:
        return task_id(self.isolate_hash, self.task)


class SlaveShare(NamedTuple):
    """What a slave did of a job. slots is None when it is not registered any more; busy_seconds add up its slots."""

    slave_id: str
    slots: int | None
    attempts: int
    busy_seconds: float
    first_start: datetime
    last_start: datetime
    last_end: datetime | None


class LastEnd(NamedTuple):
    """The attempt of a job that ended last. expected_seconds: at the submit, None when the test was new."""

    description: str
    slave_id: str
    started_at: datetime
    finished_at: datetime
    expected_seconds: float | None


class Traces:
    """Reads timelines. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now(self, job: JobRecord) -> int:
        """The microseconds since the job's submit by the database's clock."""
        return int(self._all(select(_since(job, func.utc_timestamp(6))))[0][0])

    def page(self, job: JobRecord, *, after: AttemptKey | None = None, limit: int) -> list[Span]:
        """Some attempts by task, then attempt."""
        query = _spans(job).order_by(attempts.c.task_index, attempts.c.attempt).limit(limit)
        if after is not None:
            is_before = and_(attempts.c.task_index == after.task, attempts.c.attempt <= after.attempt)
            query = query.where(attempts.c.task_index >= after.task, ~is_before)
        return self._read(query)

    def changes(self, job: JobRecord, *, since: int) -> list[Span]:
        """All that runs, retries that wait, and what ended after `since`, or shortly before it."""
        ended_after = job.submitted_at + max(since - COMMIT_MICROSECONDS, 0) * _MICROSECOND
        unfinished = attempts.c.finished_at.is_(None)
        # What is asked stands in one index: of all that waits, no row is read.
        moved = or_(attempts.c.has_started == 1, attempts.c.attempt > 0)
        ended = self._read(_spans(job).where(attempts.c.finished_at > ended_after))
        # Read last: what ends in between comes as running now, and as ended the next time.
        return ended + self._read(_spans(job).where(unfinished, moved))

    def by_start(self, job: JobRecord, *, after: Span | None = None, limit: int) -> list[Span]:
        """Some of the attempts that have started, in the order of their starts."""
        order = (attempts.c.started_at, attempts.c.task_index, attempts.c.attempt)
        query = _spans(job).where(attempts.c.started_at.is_not(None)).order_by(*order).limit(limit)
        if after is not None and after.started is not None:
            start = job.submitted_at + after.started * _MICROSECOND
            is_later = or_(
                attempts.c.task_index > after.task,
                and_(attempts.c.task_index == after.task, attempts.c.attempt > after.attempt),
            )
            query = query.where(
                or_(attempts.c.started_at > start, and_(attempts.c.started_at == start, is_later)),
            )
        return self._read(query)

    def slaves(self, job: JobRecord) -> list[SlaveShare]:
        """What each slave did of the job, by name. What still runs counts as busy until now."""
        end = func.coalesce(attempts.c.finished_at, func.utc_timestamp(6))
        busy = func.sum(func.timestampdiff(text("MICROSECOND"), attempts.c.started_at, end)) / 1_000_000
        columns = (
            func.count().label("attempts"),
            busy.label("busy_seconds"),
            func.min(attempts.c.started_at).label("first_start"),
            func.max(attempts.c.started_at).label("last_start"),
            func.max(attempts.c.finished_at).label("last_end"),
        )
        did = select(attempts.c.slave_id, *columns).where(
            attempts.c.job_key == job.job_key, attempts.c.started_at.is_not(None), attempts.c.slave_id.is_not(None)
        )
        sums = did.group_by(attempts.c.slave_id).subquery("sums")
        names = (sums.c[name] for name in SlaveShare._fields if name not in ("slave_id", "slots"))
        query = select(sums.c.slave_id, slaves.c.slots, *names)
        query = query.outerjoin(slaves, slaves.c.slave_id == sums.c.slave_id).order_by(sums.c.slave_id)
        return [SlaveShare(*row)._replace(busy_seconds=float(row.busy_seconds)) for row in self._all(query)]

    def ended_at(self, job: JobRecord, moment: datetime) -> LastEnd | None:
        """An attempt of the job that ended at this very moment."""
        query = (
            select(
                tasks.c.description,
                attempts.c.slave_id,
                attempts.c.started_at,
                attempts.c.finished_at,
                tasks.c.expected_seconds,
            )
            .join(tasks, and_(tasks.c.job_key == attempts.c.job_key, tasks.c.task_index == attempts.c.task_index))
            .where(attempts.c.job_key == job.job_key, attempts.c.finished_at == moment)
            .where(attempts.c.started_at.is_not(None), attempts.c.slave_id.is_not(None))
            .order_by(attempts.c.started_at)
            .limit(1)
        )
        rows = self._all(query)
        return LastEnd(*rows[0]) if rows else None

    def _read(self, query: Select[Any]) -> list[Span]:
        return [_span(row) for row in self._all(query)]

    def _all(self, query: Select[Any]) -> Sequence[AnyRow]:
        return self._database.run(lambda connection: connection.execute(query).all())


def _since(job: JobRecord, moment: ColumnElement[Any]) -> ColumnElement[int]:
    return func.timestampdiff(text("MICROSECOND"), job.submitted_at, moment)


def _spans(job: JobRecord) -> Select[Any]:
    return (
        select(
            attempts.c.task_index,
            attempts.c.attempt,
            tasks.c.isolate_hash,
            tasks.c.description,
            attempts.c.slave_id,
            attempts.c.outcome,
            _since(job, attempts.c.queued_at),
            _since(job, attempts.c.started_at),
            _since(job, attempts.c.finished_at),
            attempts.c.lease_until >= func.utc_timestamp(6),
        )
        .join(tasks, and_(tasks.c.job_key == attempts.c.job_key, tasks.c.task_index == attempts.c.task_index))
        .where(attempts.c.job_key == job.job_key)
    )


def _span(row: AnyRow) -> Span:
    task, attempt, isolate_hash, description, slave_id, outcome, queued, started, ended, is_leased = row
    state = outcome or ("running" if is_leased else "waiting")
    return Span(task, attempt, isolate_hash, description, slave_id, state, queued, started, ended)
