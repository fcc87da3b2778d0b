"""Attempts that ought to be in the queue: find them, say where each was put, and void the entries of those put anew."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, text

from dist_test.model.task import AttemptKey, QueueEntry
from dist_test.storage.bulk import chunks, update_rows
from dist_test.storage.claims import are_attempts
from dist_test.storage.database import Database
from dist_test.storage.events import Event, write_events
from dist_test.storage.schema import AnyRow, attempts, jobs, tasks
from dist_test.storage.slaves import microseconds
from dist_test.storage.submissions import task_from_row

PAGE = 1000
Condition = Callable[[], ColumnElement[bool]]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an attempt was put: the id that beanstalkd gave, which only means something to that very server."""

    server: str
    entry: int


@dataclass(frozen=True, kw_only=True)
class Queued:
    """An attempt that waits to be run: its entry, its priority, and where it was put last (None: nowhere yet)."""

    entry: QueueEntry
    priority: int
    place: Place | None

    @classmethod
    def from_row(cls, row: AnyRow) -> "Queued":
        entry = QueueEntry(
            key=AttemptKey(row.job_key, row.task_index, row.attempt),
            job_id=row.job_id,
            task=task_from_row(row),
            delivery=row.delivery,
            expected_seconds=row.expected_seconds,
            avoid=tuple(row.avoid_slaves.split("\n")) if row.avoid_slaves else (),
        )
        place = None if row.queue_entry is None else Place(server=row.queue_server, entry=row.queue_entry)
        return cls(entry=entry, priority=row.priority, place=place)


_COLUMNS = (
    attempts.c.job_key,
    attempts.c.task_index,
    attempts.c.attempt,
    attempts.c.delivery,
    attempts.c.priority,
    attempts.c.queue_server,
    attempts.c.queue_entry,
    attempts.c.avoid_slaves,
    jobs.c.job_id,
    tasks.c.isolate_hash,
    tasks.c.description,
    tasks.c.timeout_seconds,
    tasks.c.max_retries,
    tasks.c.expected_seconds,
    tasks.c.options,
)
_KEY = (attempts.c.job_key, attempts.c.task_index, attempts.c.attempt)


class Entries:
    """The queue as MySQL knows it."""

    def __init__(self, database: Database, *, actor: str) -> None:
        self._database = database
        self._actor = actor

    def waiting_of_job(self, job_key: int, *, older_than: timedelta = timedelta(0)) -> Iterator[list[Queued]]:
        """The attempts of a job that have waited to be run for at least `older_than`, in pages by task and attempt."""
        return self._pages(lambda: and_(attempts.c.job_key == job_key, is_waiting(), _waited(older_than)))

    def waiting(self, *, older_than: timedelta) -> Iterator[list[Queued]]:
        """All attempts of enqueued jobs that have waited for longer than `older_than`, in pages."""
        return self._pages(lambda: and_(jobs.c.enqueued_at.is_not(None), is_waiting(), _waited(older_than)))

    def lapsed(self, *, longer_than: timedelta, job_key: int | None = None) -> list[Queued]:
        """The attempts whose slave fell silent: their lease ended `longer_than` ago, and nobody took them since.

        Of one job, or of all that run; a page of them at most.
        """
        running = select(jobs.c.job_key).where(jobs.c.state == "running")
        query = _query(
            attempts.c.finished_at.is_(None),
            attempts.c.job_key.in_(running) if job_key is None else attempts.c.job_key == job_key,
            attempts.c.has_started == 1,
            attempts.c.lease_until < _ago(longer_than),
        )
        rows = self._database.run(lambda connection: connection.execute(query.limit(PAGE)).all())
        return [Queued.from_row(row) for row in rows]

    def find(self, key: AttemptKey) -> Queued | None:
        """One attempt, if it waits to be run."""
        return next(iter(self.find_all([key])), None)

    def find_all(self, keys: Sequence[AttemptKey]) -> list[Queued]:
        """Those of the attempts that wait to be run."""
        found: list[Queued] = []
        for chunk in chunks(keys, PAGE):
            query = _query(are_attempts(chunk), is_waiting())
            rows = self._database.run(lambda connection, query=query: connection.execute(query).all())  # type: ignore[misc]  # bound now
            found += [Queued.from_row(row) for row in rows]
        return found

    def record_put(self, places: Sequence[tuple[AttemptKey, Place]]) -> None:
        """Remember where attempts were put."""
        for chunk in chunks(sorted(places, key=lambda item: item[0]), PAGE):
            self._database.run(lambda connection, chunk=chunk: _record_put(connection, chunk))  # type: ignore[misc]  # bound now

    def raise_delivery(self, queued: Sequence[Queued], *, reason: str) -> list[Queued]:
        """Void the entries of attempts that still wait, so that they can be put anew; give back what to put.

        What was claimed, finished or put anew by somebody else in the meantime is left out.
        """
        raised: list[Queued] = []
        for chunk in chunks(sorted(queued, key=lambda item: item.entry.key), PAGE):
            raised += self._database.run(lambda connection, chunk=chunk: self._raise(connection, chunk, reason))  # type: ignore[misc]  # bound now
        return raised

    def _raise(self, connection: Connection, queued: Sequence[Queued], reason: str) -> list[Queued]:
        known = {item.entry.key: item for item in queued}
        locked = connection.execute(
            select(*_KEY, attempts.c.delivery)
            .where(are_attempts(known), is_waiting())
            .order_by(*_KEY)
            .with_for_update()
        ).all()
        still = [
            known[AttemptKey(*row[:3])] for row in locked if known[AttemptKey(*row[:3])].entry.delivery == row.delivery
        ]
        raised = [_next_delivery(item) for item in still]
        rows = [{**_key_columns(item.entry.key), "delivery": item.entry.delivery} for item in raised]
        update_rows(connection, attempts, rows)
        write_events(connection, [self._repaired(item, reason) for item in raised])
        return raised

    def _repaired(self, item: Queued, reason: str) -> Event:
        key = item.entry.key
        return Event(
            job=key.job, kind="repaired", actor=self._actor, key=key, delivery=item.entry.delivery, detail=reason
        )

    def _pages(self, condition: Condition) -> Iterator[list[Queued]]:
        after = AttemptKey(-1, -1, -1)
        while True:
            rows = self._database.run(lambda connection: _page(connection, condition(), after))  # noqa: B023  # run at once
            if rows:
                yield [Queued.from_row(row) for row in rows]
            if len(rows) < PAGE:
                return
            after = AttemptKey(rows[-1].job_key, rows[-1].task_index, rows[-1].attempt)


def is_waiting() -> ColumnElement[bool]:
    """The condition that an attempt is to be run, and nobody runs it."""
    free = or_(attempts.c.lease_until.is_(None), attempts.c.lease_until < func.utc_timestamp(6))
    return and_(attempts.c.finished_at.is_(None), free)


def _waited(duration: timedelta) -> ColumnElement[bool]:
    since = func.greatest(attempts.c.queued_at, func.coalesce(attempts.c.lease_until, attempts.c.queued_at))
    return since <= _ago(duration)


def _ago(duration: timedelta) -> ColumnElement[datetime]:
    interval = text("INTERVAL :ago MICROSECOND").bindparams(ago=microseconds(duration))
    return func.utc_timestamp(6).op("-")(interval)


def _query(*conditions: ColumnElement[bool]) -> Select[Any]:
    return (
        select(*_COLUMNS)
        .join(jobs, jobs.c.job_key == attempts.c.job_key)
        .join(tasks, and_(tasks.c.job_key == attempts.c.job_key, tasks.c.task_index == attempts.c.task_index))
        .where(*conditions)
    )


def _page(connection: Connection, condition: ColumnElement[bool], after: AttemptKey) -> Sequence[AnyRow]:
    # First the same job, then later ones: asked of both at once, the server reads and sorts all that wait each time.
    place = or_(
        attempts.c.task_index > after.task,
        and_(attempts.c.task_index == after.task, attempts.c.attempt > after.attempt),
    )
    same_job = _query(condition, attempts.c.job_key == after.job, place).order_by(*_KEY)
    rows = list(connection.execute(same_job.limit(PAGE)).all())
    if len(rows) < PAGE:
        later_jobs = _query(condition, attempts.c.job_key > after.job).order_by(*_KEY)
        rows += connection.execute(later_jobs.limit(PAGE - len(rows))).all()
    return rows


def _record_put(connection: Connection, places: Sequence[tuple[AttemptKey, Place]]) -> None:
    keys = [key for key, _ in places]
    locked = connection.execute(select(*_KEY).where(are_attempts(keys)).order_by(*_KEY).with_for_update())
    there = {AttemptKey(*row) for row in locked}
    rows = [
        {**_key_columns(key), "queue_server": place.server, "queue_entry": place.entry}
        for key, place in places
        if key in there
    ]
    if rows:
        update_rows(connection, attempts, rows)


def _next_delivery(item: Queued) -> Queued:
    return Queued(entry=item.entry.with_delivery(item.entry.delivery + 1), priority=item.priority, place=item.place)


def _key_columns(key: AttemptKey) -> dict[str, int]:
    return {"job_key": key.job, "task_index": key.task, "attempt": key.attempt}
