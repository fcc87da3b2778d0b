"""Cancel jobs: finish what is not finished, give the owner's unused share back, and say which entries are void."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, func, select, text, update

from dist_test.errors import JobNotFound, JobNotRunning
from dist_test.model import schedule
from dist_test.model.group import Ending, History
from dist_test.model.outcome import Outcome
from dist_test.model.summary import Counters, change
from dist_test.model.task import AttemptKey
from dist_test.storage.bulk import update_rows
from dist_test.storage.database import Database
from dist_test.storage.entries import Place
from dist_test.storage.events import Event, write_events
from dist_test.storage.fairness import Share, lock_period, lock_share, virtual_time, write_share
from dist_test.storage.finishes import write_counters
from dist_test.storage.schema import AnyRow, attempts, jobs

MAX_RETAGGED = 10_000  # scheduling.md: past this the cost outweighs the fairness
MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class Canceled:
    """What a cancel did: how many attempts it ended, where their entries were put, and what else moved in the order.

    `retagged` are the owner's other waiting attempts: they have new priorities and must be put anew, with their next
    delivery. `not_retagged` counts those beyond the limit.
    """

    attempts: int
    entries: tuple[tuple[AttemptKey, Place], ...]
    retagged: tuple[AttemptKey, ...]
    not_retagged: int


class Cancels:
    """Cancels jobs on behalf of one master."""

    def __init__(self, database: Database, *, actor: str) -> None:
        self._database = database
        self._actor = actor

    def cancel(self, job_id: str, reason: str) -> Canceled:
        """End every unfinished attempt of the job as canceled. Raises JobNotFound, and JobNotRunning when it is over.

        Terminal at once: a slave that still runs one of them notices with its next heartbeat, and nothing that it
        then writes counts. A reason that was set before, by too many failures, stays.
        """
        return self._database.run(lambda connection: self._cancel(connection, job_id, reason[:MAX_REASON_CHARACTERS]))

    def half_canceled(self) -> list[str]:
        """The jobs that have a reason to be canceled and still have attempts to end."""
        query = select(jobs.c.job_id).where(jobs.c.state == "running", jobs.c.cancel_reason.is_not(None))
        return list(self._database.run(lambda connection: connection.execute(query).scalars().all()))

    def _cancel(self, connection: Connection, job_id: str, reason: str) -> Canceled:
        period = lock_period(connection)
        owner = connection.execute(select(jobs.c.owner).where(jobs.c.job_id == job_id)).scalar()
        if owner is None:
            raise JobNotFound(f"no job has the id {job_id}")
        share = lock_share(connection, owner, period)
        job = connection.execute(select(jobs).where(jobs.c.job_id == job_id).with_for_update()).one()
        if job.state == "finished":
            raise JobNotRunning(f"job {job_id} has ended already; there is nothing to cancel")
        if job.state == "submitting":
            raise JobNotRunning(f"job {job_id} is still being submitted; cancel it in a moment")
        rows = _lock_unfinished(connection, job.job_key)
        self._finish(connection, job, rows, reason)
        retagged, left = _give_back(connection, share, job)
        return Canceled(attempts=len(rows), entries=_entries(rows), retagged=retagged, not_retagged=left)

    def _finish(self, connection: Connection, job: AnyRow, rows: Sequence[AnyRow], reason: str) -> None:
        reason = job.cancel_reason or reason
        unfinished = (attempts.c.job_key == job.job_key, attempts.c.finished_at.is_(None))
        connection.execute(
            update(attempts)
            .where(*unfinished)
            .values(finished_at=func.utc_timestamp(6), lease_until=None, outcome=Outcome.CANCELED.value, message=reason)
        )
        write_counters(connection, job, sum(map(_change, rows), Counters()))
        connection.execute(
            update(jobs)
            .where(jobs.c.job_key == job.job_key)
            .values(cancel_reason=reason, canceled_at=func.utc_timestamp(6))
        )
        canceled = Event(job=job.job_key, kind="canceled", actor=self._actor, detail=f"{len(rows)} attempts: {reason}")
        write_events(connection, [canceled])


_KEY = (attempts.c.job_key, attempts.c.task_index, attempts.c.attempt)


def _lock_unfinished(connection: Connection, job_key: int) -> Sequence[AnyRow]:
    query = (
        select(
            *_KEY,
            attempts.c.prior_failures,
            attempts.c.prior_setup_failures,
            attempts.c.queue_server,
            attempts.c.queue_entry,
        )
        .where(attempts.c.job_key == job_key, attempts.c.finished_at.is_(None))
        .order_by(*_KEY)
        .with_for_update()
    )
    return connection.execute(query).all()


def _change(row: AnyRow) -> Counters:
    before = History(failures=row.prior_failures, setup_failures=row.prior_setup_failures)
    return change(attempt=row.attempt, outcome=Outcome.CANCELED, before=before, end=Ending.CANCELED)


def _entries(rows: Sequence[AnyRow]) -> tuple[tuple[AttemptKey, Place], ...]:
    return tuple(
        (AttemptKey(row.job_key, row.task_index, row.attempt), Place(server=row.queue_server, entry=row.queue_entry))
        for row in rows
        if row.queue_entry is not None
    )


# Of a promoted job the tags say nothing about when it runs: see _PAID_AHEAD.
_PAID = text("""
    SELECT COALESCE(MAX(attempts.finish_tag), 0)
    FROM jobs JOIN attempts USING (job_key)
    WHERE jobs.owner = :owner AND jobs.period = :period AND attempts.period = :period
      AND attempts.priority >= :promoted
      -- Retries that wait keep their tags, and so are paid for.
      AND (attempts.has_started = 1 OR (attempts.attempt > 0 AND attempts.finished_at IS NULL))
""")

# What was promoted from behind the last that is paid for: it ran, or will run before all others.
_PAID_AHEAD = text("""
    SELECT COALESCE(SUM(attempts.charge_seconds / jobs.weight), 0)
    FROM jobs JOIN attempts USING (job_key)
    WHERE jobs.owner = :owner AND jobs.period = :period AND attempts.period = :period
      AND attempts.priority < :promoted AND attempts.finish_tag > :paid
      AND (attempts.has_started = 1 OR attempts.finished_at IS NULL)
""")

# The others move up to there: from now on nothing of it lies ahead of them.
_MARK_PAID = text("""
    UPDATE jobs JOIN attempts USING (job_key) SET attempts.finish_tag = :start
    WHERE jobs.owner = :owner AND jobs.period = :period AND attempts.period = :period
      AND attempts.priority < :promoted AND attempts.finish_tag > :start
""")

_WAITING = text("""
    SELECT job_key, task_index, attempt, attempts.charge_seconds, delivery
    FROM jobs JOIN attempts USING (job_key)
    WHERE jobs.owner = :owner AND jobs.state = 'running' AND attempts.period = :period
      AND attempts.finished_at IS NULL AND attempts.has_started = 0 AND attempts.attempt = 0
      AND attempts.priority >= :promoted
    ORDER BY attempts.start_tag, job_key, task_index
    LIMIT :most FOR UPDATE
""")

_LAST_WAITING = text("""
    SELECT COALESCE(MAX(attempts.finish_tag), 0) FROM jobs JOIN attempts USING (job_key)
    WHERE jobs.owner = :owner AND jobs.state = 'running' AND attempts.period = :period
      AND attempts.finished_at IS NULL AND attempts.has_started = 0 AND attempts.priority >= :promoted
""")

_COUNT_WAITING = text("""
    SELECT COUNT(*) FROM jobs JOIN attempts USING (job_key)
    WHERE jobs.owner = :owner AND jobs.state = 'running' AND attempts.period = :period
      AND attempts.finished_at IS NULL AND attempts.has_started = 0 AND attempts.attempt = 0
      AND attempts.priority >= :promoted
""")


def _give_back(connection: Connection, share: Share, job: AnyRow) -> tuple[tuple[AttemptKey, ...], int]:
    """Charge the owner for what ran, and move what still waits up to where it would be without the canceled job."""
    if job.period != share.period:
        return (), 0
    values = {
        "owner": share.owner,
        "period": share.period,
        "most": MAX_RETAGGED,
        "promoted": schedule.RETRY_BAND,
    }
    total = int(connection.execute(_COUNT_WAITING, values).scalar_one())
    paid = float(connection.execute(_PAID, values).scalar_one())
    ahead = float(connection.execute(_PAID_AHEAD, values | {"paid": paid}).scalar_one())
    paid += ahead
    if total > MAX_RETAGGED:
        # They keep their tags, so the owner goes on behind the last of them.
        last = float(connection.execute(_LAST_WAITING, values).scalar_one())
        write_share(connection, replace(share, finish_tag=max(last, paid + share.retry_charge)))
        return (), total
    start = max(virtual_time(connection, share.period), paid + share.retry_charge)
    if ahead:
        connection.execute(_MARK_PAID, values | {"start": start})
    waiting = connection.execute(_WAITING, values).all()
    tags = schedule.tags([row.charge_seconds for row in waiting], start=start, weight=share.weight)
    write_share(connection, replace(share, finish_tag=tags[-1].finish if tags else start))
    rows = [
        {
            "job_key": row.job_key,
            "task_index": row.task_index,
            "attempt": row.attempt,
            "start_tag": tag.start,
            "finish_tag": tag.finish,
            "priority": schedule.first_priority(tag.start),
        }
        for row, tag in zip(waiting, tags, strict=True)
    ]
    update_rows(connection, attempts, rows)
    return tuple(AttemptKey(row.job_key, row.task_index, row.attempt) for row in waiting), 0
