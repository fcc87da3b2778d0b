"""Promote jobs: give what waits of them the priorities above everybody else's, and say whom that delays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, func, select

from dist_test.errors import JobNotFound, JobNotRunning
from dist_test.model import schedule
from dist_test.model.task import AttemptKey
from dist_test.storage.bulk import update_rows
from dist_test.storage.database import Database
from dist_test.storage.entries import Place, is_waiting
from dist_test.storage.events import Event, write_events
from dist_test.storage.schema import AnyRow, attempts, jobs


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """What a promotion moved: the waiting attempts, in their order, and where their void entries were put.

    `running` attempts were not moved: only what follows them, a retry or another delivery, will be.
    """

    job_key: int
    moves: tuple[schedule.Move, ...]
    waiting: tuple[AttemptKey, ...]
    entries: tuple[tuple[AttemptKey, Place], ...]
    running: int

    @property
    def seconds(self) -> float:
        """The expected work that was moved, in seconds of one slot."""
        return sum(move.seconds for move in self.moves)


@dataclass(frozen=True, kw_only=True)
class Delayed:
    """A job whose next attempt waits behind promoted ones: `seconds` of one slot's work were put ahead of it."""

    job_id: str
    owner: str
    waiting: int
    seconds: float


class Promotions:
    """Promotes jobs on behalf of an operator."""

    def __init__(self, database: Database, *, actor: str) -> None:
        self._database = database
        self._actor = actor

    def promote(self, job_id: str) -> Promoted:
        """Move all that waits of a job into the highest band, in one transaction; the caller puts it there.

        Longest first stays inside the job. The owner is charged as before. What was moved before stays as it is:
        repeated, this moves nothing. Raises JobNotFound, and JobNotRunning when there is nothing to promote.
        """
        return self._database.run(lambda connection: self._promote(connection, job_id))

    def delayed(self, promoted: Promoted) -> list[Delayed]:
        """The jobs that now wait behind what was moved, the most delayed first."""
        rows = self._database.run(lambda connection: connection.execute(_others(promoted.job_key)).all())
        found = [
            Delayed(
                job_id=row.job_id,
                owner=row.owner,
                waiting=row.waiting,
                seconds=schedule.seconds_put_ahead(promoted.moves, row.priority),
            )
            for row in rows
        ]
        return sorted((job for job in found if job.seconds), key=lambda job: (-job.seconds, job.job_id))

    def _promote(self, connection: Connection, job_id: str) -> Promoted:
        job = connection.execute(select(jobs).where(jobs.c.job_id == job_id).with_for_update()).one_or_none()
        _refuse(job_id, job)
        assert job is not None  # it would have been refused
        rows = sorted(connection.execute(_unpromoted(job.job_key)).all(), key=_place_before)
        waiting = [row for row in rows if row.is_waiting]
        after = [_priority(row, place, len(rows)) for place, row in enumerate(rows)]
        changes = [_changes(row, priority) for row, priority in zip(rows, after, strict=True)]
        update_rows(connection, attempts, sorted(changes, key=lambda change: (change["task_index"], change["attempt"])))
        self._tell(connection, job.job_key, rows, waiting)
        return Promoted(
            job_key=job.job_key,
            moves=tuple(
                schedule.Move(before=row.priority, after=priority, seconds=row.charge_seconds)
                for row, priority in zip(rows, after, strict=True)
                if row.is_waiting
            ),
            waiting=tuple(map(_key, waiting)),
            entries=tuple(
                (_key(row), Place(server=row.queue_server, entry=row.queue_entry))
                for row in waiting
                if row.queue_entry is not None
            ),
            running=len(rows) - len(waiting),
        )

    def _tell(self, connection: Connection, job_key: int, rows: Sequence[AnyRow], waiting: Sequence[AnyRow]) -> None:
        if not rows:
            return
        moved = [
            Event(job=job_key, kind="promoted", actor=self._actor, key=_key(row), delivery=row.delivery + 1)
            for row in waiting
        ]
        detail = f"{len(waiting)} waiting attempts"
        write_events(connection, [Event(job=job_key, kind="promoted", actor=self._actor, detail=detail), *moved])


def _refuse(job_id: str, job: AnyRow | None) -> None:
    if job is None:
        raise JobNotFound(f"no job has the id {job_id}")
    if job.state == "finished":
        raise JobNotRunning(f"job {job_id} has ended already; there is nothing to promote")
    if job.state == "submitting":
        raise JobNotRunning(f"job {job_id} is still being submitted; promote it in a moment")
    if job.cancel_reason is not None:
        raise JobNotRunning(f"job {job_id} is being canceled ({job.cancel_reason}); there is nothing to promote")


def _unpromoted(job_key: int) -> Select[Any]:
    return (
        select(
            attempts.c.job_key,
            attempts.c.task_index,
            attempts.c.attempt,
            attempts.c.priority,
            attempts.c.delivery,
            attempts.c.start_tag,
            attempts.c.has_started,
            attempts.c.charge_seconds,
            attempts.c.queue_server,
            attempts.c.queue_entry,
            is_waiting().label("is_waiting"),
        )
        .where(
            attempts.c.job_key == job_key,
            attempts.c.finished_at.is_(None),
            attempts.c.priority >= schedule.RETRY_BAND,
        )
        .order_by(attempts.c.task_index, attempts.c.attempt)
        .with_for_update()
    )


def _place_before(row: AnyRow) -> tuple[int, float, int]:
    # Priorities have whole seconds only.
    return (row.priority, row.start_tag, row.task_index)


def _priority(row: AnyRow, place: int, total: int) -> int:
    return schedule.promoted_retry_priority(row.attempt) if row.attempt else schedule.promoted_priority(place, total)


def _changes(row: AnyRow, priority: int) -> dict[str, Any]:
    # Attempts far down the order would drag the virtual time with them when they begin to run: whoever submits next
    # would stand behind all that waits. The finish tag stays: it is what the owner has paid.
    drags = row.attempt == 0 and not row.has_started
    return {
        "job_key": row.job_key,
        "task_index": row.task_index,
        "attempt": row.attempt,
        "start_tag": 0.0 if drags else row.start_tag,
        "priority": priority,
        # Who runs it keeps it: its entry is not put anew.
        "delivery": row.delivery + bool(row.is_waiting),
    }


def _key(row: AnyRow) -> AttemptKey:
    return AttemptKey(row.job_key, row.task_index, row.attempt)


def _others(job_key: int) -> Select[Any]:
    return (
        select(
            jobs.c.job_id,
            jobs.c.owner,
            func.count().label("waiting"),
            func.min(attempts.c.priority).label("priority"),
        )
        .join(attempts, attempts.c.job_key == jobs.c.job_key)
        .where(jobs.c.state == "running", jobs.c.job_key != job_key, is_waiting())
        .group_by(jobs.c.job_id, jobs.c.owner)
    )
