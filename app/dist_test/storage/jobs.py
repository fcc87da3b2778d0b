"""What there is to read about jobs and their attempts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text

from dist_test.errors import JobNotFound
from dist_test.model.outcome import Outcome, wire_status
from dist_test.model.summary import COUNTER_NAMES, Counters
from dist_test.model.task import AttemptKey, task_id
from dist_test.storage.database import Database
from dist_test.storage.schema import AnyRow, attempts, events, jobs, tasks

MAX_PAGE = 10_000
UNFINISHED_STATES = ("running", "submitting")


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as it stands. `state` is submitting, running or finished; times are UTC."""

    job_key: int
    job_id: str
    name: str
    project: str
    owner: str
    state: str
    max_failed_tasks: int | None
    submitted_at: datetime
    enqueued_at: datetime | None
    finished_at: datetime | None
    cancel_reason: str | None
    counters: Counters
    promoted_at: datetime | None = None

    @property
    def result(self) -> str | None:
        """canceled, failed or succeeded; None until the job is finished. Flaky tasks are successes."""
        if self.state != "finished":
            return None
        if self.cancel_reason is not None and self.counters.canceled_tasks:
            return "canceled"
        return "failed" if self.counters.failed_tasks else "succeeded"

    @classmethod
    def from_row(cls, row: AnyRow) -> "JobRecord":
        fields = {column.name: getattr(row, column.name) for column in JOB_COLUMNS if column.name not in COUNTER_NAMES}
        counters = Counters(**{name: getattr(row, name) for name in COUNTER_NAMES})
        return cls(counters=counters, **fields)


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """An attempt as it stands. `state` is queued, running or finished; sizes are None for what was not stored."""

    key: AttemptKey
    task_id: str
    description: str
    state: str
    outcome: Outcome | None
    exit_status: int | None
    duration_seconds: float | None
    slave_id: str | None
    claim: int
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    message: str | None
    logs_lost: bool
    prior_failures: int
    stdout_bytes: int | None
    stderr_bytes: int | None
    artifact_bytes: int | None

    @property
    def is_flaky(self) -> bool:
        """Whether this is the success of a task that had failed before."""
        return self.outcome is Outcome.SUCCEEDED and self.prior_failures > 0

    @property
    def status(self) -> int | None:
        """The `status` on the original's wire."""
        return wire_status(self.outcome, self.exit_status)

    @classmethod
    def from_row(cls, row: AnyRow) -> "AttemptRecord":
        names = [name for name in _PLAIN_FIELDS if name != "outcome"]
        return cls(
            key=AttemptKey(row.job_key, row.task_index, row.attempt),
            task_id=task_id(row.isolate_hash, row.task_index),
            outcome=Outcome(row.outcome) if row.outcome else None,
            state=_state(row),
            logs_lost=bool(row.logs_lost),
            **{name: getattr(row, name) for name in names},
        )


@dataclass(frozen=True, kw_only=True)
class RunningAttempt:
    """What a slave is at, and since when (UTC). running_for: by the database's clock."""

    slave_id: str
    job_id: str
    key: AttemptKey
    description: str
    started_at: datetime
    running_for: timedelta

    @classmethod
    def from_row(cls, row: AnyRow) -> "RunningAttempt":
        return cls(
            slave_id=row.slave_id,
            job_id=row.job_id,
            key=AttemptKey(row.job_key, row.task_index, row.attempt),
            description=row.description,
            started_at=row.started_at,
            running_for=timedelta(microseconds=row.running_microseconds),
        )


class AttemptFilter(StrEnum):
    """Which attempts of a job to list."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # finished without success
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    FLAKY = "flaky"  # attempts of tasks that succeeded after a failure


# Of a job as a whole there are a handful of events, at the front of their index.
_PROMOTED_AT = (
    select(func.max(events.c.at))
    .where(events.c.job_key == jobs.c.job_key, events.c.task_index.is_(None), events.c.kind == "promoted")
    .scalar_subquery()
    .label("promoted_at")
)
JOB_COLUMNS = (
    jobs.c.job_key,
    jobs.c.job_id,
    jobs.c.name,
    jobs.c.project,
    jobs.c.owner,
    jobs.c.state,
    jobs.c.max_failed_tasks,
    jobs.c.submitted_at,
    jobs.c.enqueued_at,
    jobs.c.finished_at,
    jobs.c.cancel_reason,
    _PROMOTED_AT,
    *(jobs.c[name] for name in COUNTER_NAMES),
)
_PLAIN_FIELDS = (
    "description",
    "exit_status",
    "duration_seconds",
    "slave_id",
    "claim",
    "queued_at",
    "started_at",
    "finished_at",
    "message",
    "prior_failures",
    "stdout_bytes",
    "stderr_bytes",
    "artifact_bytes",
)
_RUNNING_COLUMNS = (
    attempts.c.slave_id,
    jobs.c.job_id,
    attempts.c.job_key,
    attempts.c.task_index,
    attempts.c.attempt,
    tasks.c.description,
    attempts.c.started_at,
    func.timestampdiff(text("MICROSECOND"), attempts.c.started_at, func.utc_timestamp(6)).label("running_microseconds"),
)
_IS_LEASED = attempts.c.lease_until >= func.utc_timestamp(6)


class Jobs:
    """Reads jobs and attempts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, job_id: str) -> JobRecord:
        """The job with this id. Raises JobNotFound."""
        rows = self._all(select(*JOB_COLUMNS).where(jobs.c.job_id == job_id))
        if not rows:
            raise JobNotFound(f"no job has the id {job_id}")
        return JobRecord.from_row(rows[0])

    def recent(self, *, limit: int, before: int | None = None) -> list[JobRecord]:
        """The newest jobs first; `before` is the job_key to go on from."""
        query = select(*JOB_COLUMNS).order_by(jobs.c.job_key.desc()).limit(limit)
        if before is not None:
            query = query.where(jobs.c.job_key < before)
        return [JobRecord.from_row(row) for row in self._all(query)]

    def by_state(self, state: str) -> list[JobRecord]:
        """All jobs that are submitting, or running, oldest first."""
        query = select(*JOB_COLUMNS).where(jobs.c.state == state).order_by(jobs.c.job_key)
        return [JobRecord.from_row(row) for row in self._all(query)]

    def attempts(
        self,
        job_key: int,
        *,
        only: AttemptFilter | None = None,
        search: str = "",
        after: AttemptKey | None = None,
        limit: int = 1000,
    ) -> list[AttemptRecord]:
        """A page of a job's attempts by task, then attempt; `search` is looked for in descriptions and slaves."""
        keys = attempt_keys(job_key, only, search).order_by(attempts.c.task_index, attempts.c.attempt)
        if after is not None:
            later = and_(attempts.c.task_index == after.task, attempts.c.attempt > after.attempt)
            keys = keys.where(or_(attempts.c.task_index > after.task, later))
        return [AttemptRecord.from_row(row) for row in self._all(rows_of(keys.limit(min(limit, MAX_PAGE)), job_key))]

    def attempt(self, key: AttemptKey) -> AttemptRecord | None:
        """One attempt; None when there is none."""
        query = attempts_query(key.job).where(attempts.c.task_index == key.task, attempts.c.attempt == key.attempt)
        rows = self._all(query)
        return AttemptRecord.from_row(rows[0]) if rows else None

    def latest_attempt(self, job_key: int, task_index: int) -> AttemptRecord | None:
        """The last attempt of a task; None when there is no such task."""
        query = attempts_query(job_key).where(attempts.c.task_index == task_index)
        rows = self._all(query.order_by(None).order_by(attempts.c.attempt.desc()).limit(1))
        return AttemptRecord.from_row(rows[0]) if rows else None

    def running(self, job_key: int | None = None) -> int:
        """How many attempts run under a live lease, in one job or in all."""
        query = select(func.count()).select_from(attempts).where(attempts.c.finished_at.is_(None))
        query = query.where(attempts.c.has_started == 1, _IS_LEASED)
        if job_key is not None:
            query = query.where(attempts.c.job_key == job_key)
        else:
            # The index starts with finished_at and job_key: name the few jobs that can have unfinished attempts.
            query = query.where(attempts.c.job_key.in_(select(jobs.c.job_key).where(jobs.c.state != "finished")))
        return int(self._all(query)[0][0])

    def running_on(self, slave_id: str) -> list[RunningAttempt]:
        """The attempts that a slave holds a live lease on, also those whose result it has yet to record."""
        rows = self._all(_running_query().where(attempts.c.slave_id == slave_id))
        return [RunningAttempt.from_row(row) for row in rows]

    def running_everywhere(self) -> list[RunningAttempt]:
        """What runs under a live lease on any slave, the longest first."""
        return [RunningAttempt.from_row(row) for row in self._all(_running_query())]

    def unfinished(self) -> int:
        """How many attempts of all jobs are not finished."""
        query = select(func.coalesce(func.sum(jobs.c.total_attempts - jobs.c.finished_attempts), 0))
        return int(self._all(query.where(jobs.c.state.in_(UNFINISHED_STATES)))[0][0])

    def expected_seconds_by_job(self) -> dict[int, float]:
        """The expected work of the unfinished attempts of each unfinished job, in seconds of one slot, by job_key."""
        is_left = and_(attempts.c.job_key == jobs.c.job_key, attempts.c.finished_at.is_(None))
        query = select(jobs.c.job_key, func.coalesce(func.sum(attempts.c.charge_seconds), 0.0))
        query = query.select_from(jobs).outerjoin(attempts, is_left).where(jobs.c.state.in_(UNFINISHED_STATES))
        return {key: float(seconds) for key, seconds in self._all(query.group_by(jobs.c.job_key))}

    def _all(self, query: Select[Any]) -> Sequence[AnyRow]:
        return self._database.run(lambda connection: connection.execute(query).all())


def _running_query() -> Select[Any]:
    return (
        select(*_RUNNING_COLUMNS)
        .join(jobs, jobs.c.job_key == attempts.c.job_key)
        .join(tasks, and_(tasks.c.job_key == attempts.c.job_key, tasks.c.task_index == attempts.c.task_index))
        .where(jobs.c.state != "finished", attempts.c.finished_at.is_(None), _IS_LEASED)
        # Whoever has a lease has started. That stands in the index: without it, all that waits would be read too.
        .where(attempts.c.has_started == 1)
        .order_by(attempts.c.started_at)
    )


def attempts_query(job_key: int) -> Select[Any]:
    """The rows that `AttemptRecord.from_row` takes, of a whole job, by task and attempt."""
    return (
        select(attempts, tasks.c.isolate_hash, tasks.c.description, _IS_LEASED.label("is_leased"))
        .join(tasks, and_(tasks.c.job_key == attempts.c.job_key, tasks.c.task_index == attempts.c.task_index))
        .where(attempts.c.job_key == job_key)
        .order_by(attempts.c.task_index, attempts.c.attempt)
    )


_KEY = ("job_key", "task_index", "attempt")


def attempt_keys(job_key: int, only: AttemptFilter | None, search: str) -> Select[Any]:
    """The keys of a job's attempts in no order. `search`: part of a description, or a slave's whole name."""
    query = select(*(attempts.c[name] for name in _KEY)).where(attempts.c.job_key == job_key)
    if only is not None:
        query = query.where(matching(only, job_key))
    if search:
        described = select(tasks.c.task_index).where(
            tasks.c.job_key == job_key, tasks.c.description.contains(search, autoescape=True)
        )
        query = query.where(or_(attempts.c.task_index.in_(described), attempts.c.slave_id == search))
    return query


def rows_of(keys: Select[Any], job_key: int) -> Select[Any]:
    """The rows that `AttemptRecord.from_row` takes, of these keys, by task and attempt.

    A page is chosen by its keys alone. With the tasks' columns in the same SELECT the server may begin with all tasks
    of the job, and sort them, for each page.
    """
    found = keys.subquery("found")
    return attempts_query(job_key).join(found, and_(*(attempts.c[name] == found.c[name] for name in _KEY)))


def _state(row: AnyRow) -> str:
    if row.finished_at is not None:
        return "finished"
    return "running" if row.is_leased else "queued"


_FILTERS: dict[AttemptFilter, ColumnElement[bool]] = {
    AttemptFilter.QUEUED: and_(attempts.c.finished_at.is_(None), func.coalesce(_IS_LEASED, False).is_(False)),
    AttemptFilter.RUNNING: and_(attempts.c.finished_at.is_(None), _IS_LEASED),
    AttemptFilter.FINISHED: attempts.c.finished_at.is_not(None),
    AttemptFilter.SUCCEEDED: attempts.c.outcome == Outcome.SUCCEEDED,
    AttemptFilter.FAILED: attempts.c.outcome != Outcome.SUCCEEDED,
    AttemptFilter.TIMED_OUT: attempts.c.outcome == Outcome.TIMED_OUT,
    AttemptFilter.CANCELED: attempts.c.outcome == Outcome.CANCELED,
}


def matching(only: AttemptFilter, job_key: int) -> ColumnElement[bool]:
    """The condition on a job's attempts. PURE."""
    if only is not AttemptFilter.FLAKY:
        return _FILTERS[only]
    # Once for all: asked of each of 100,000 attempts it takes a second.
    flaky = select(attempts.c.task_index).where(
        attempts.c.job_key == job_key, attempts.c.outcome == Outcome.SUCCEEDED, attempts.c.prior_failures > 0
    )
    return attempts.c.task_index.in_(flaky)
