"""Everything that an audit of a job needs, as of one moment."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, select, text

from dist_test.model.group import History
from dist_test.model.outcome import Outcome
from dist_test.model.summary import COUNTER_NAMES, Counters
from dist_test.model.task import AttemptKey
from dist_test.storage.database import Database
from dist_test.storage.events import Event, events_of_attempt
from dist_test.storage.schema import attempts, events, jobs, tasks


@dataclass(frozen=True, kw_only=True)
class AuditedAttempt:
    """An attempt as an audit sees it. `finishes` counts its events of kind finished."""

    key: AttemptKey
    outcome: Outcome | None
    is_leased: bool
    history: History
    max_retries: int
    finishes: int


@dataclass(frozen=True, kw_only=True)
class AuditedJob:
    """A job and all its attempts, by task and number, as of one moment."""

    job_key: int
    job_id: str
    state: str
    is_canceled: bool
    counters: Counters
    attempts: Sequence[AuditedAttempt]


class Audits:
    """Reads for audits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, job_key: int) -> AuditedJob:
        """One job, all of it from one snapshot."""
        return self._database.run(lambda connection: _read(connection, job_key))

    def events(self, key: AttemptKey) -> list[Event]:
        """What happened to one attempt."""
        return self._database.run(lambda connection: events_of_attempt(connection, key))


def _read(connection: Connection, job_key: int) -> AuditedJob:
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    job = connection.execute(select(jobs).where(jobs.c.job_key == job_key)).one()
    finished = select(events.c.task_index, events.c.attempt, func.count().label("number")).where(
        events.c.job_key == job_key, events.c.kind == "finished"
    )
    finishes = {
        (row.task_index, row.attempt): row.number
        for row in connection.execute(finished.group_by(events.c.task_index, events.c.attempt))
    }
    query = (
        select(
            attempts.c.task_index,
            attempts.c.attempt,
            attempts.c.outcome,
            attempts.c.prior_failures,
            attempts.c.prior_setup_failures,
            tasks.c.max_retries,
            (attempts.c.lease_until >= func.utc_timestamp(6)).label("is_leased"),
        )
        .join(tasks, and_(tasks.c.job_key == attempts.c.job_key, tasks.c.task_index == attempts.c.task_index))
        .where(attempts.c.job_key == job_key)
        .order_by(attempts.c.task_index, attempts.c.attempt)
    )
    found = [
        AuditedAttempt(
            key=AttemptKey(job_key, row.task_index, row.attempt),
            outcome=Outcome(row.outcome) if row.outcome else None,
            is_leased=bool(row.is_leased),
            history=History(failures=row.prior_failures, setup_failures=row.prior_setup_failures),
            max_retries=row.max_retries,
            finishes=finishes.get((row.task_index, row.attempt), 0),
        )
        for row in connection.execute(query)
    ]
    return AuditedJob(
        job_key=job_key,
        job_id=job.job_id,
        state=job.state,
        is_canceled=job.cancel_reason is not None,
        counters=Counters(**{name: getattr(job, name) for name in COUNTER_NAMES}),
        attempts=found,
    )
