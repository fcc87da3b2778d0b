"""Store a job in two steps that any master can take up again: first its place in the order, then its rows.

1. `begin`: a short transaction under the lock of the busy period reserves the owner's range of tags and inserts the
   job as `submitting`, with a lease on the submitting. Other masters and the slaves hardly wait.
2. `store`: one transaction inserts all tasks and attempts, so that they are there as a whole or not at all.
Then the caller puts the attempts (`unqueued`, `record_put`) and ends with `complete`.
"""

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select, text, update

from dist_test.errors import JobConflict, SubmitInProgress
from dist_test.model import schedule
from dist_test.model.job import Job
from dist_test.model.summary import Counters
from dist_test.model.task import Task
from dist_test.storage.bulk import insert_rows
from dist_test.storage.database import Database
from dist_test.storage.durations import Durations
from dist_test.storage.events import Event, write_events
from dist_test.storage.fairness import begin_period_if_idle, lock_period, lock_share, virtual_time, write_share
from dist_test.storage.schema import AnyRow, attempts, jobs, tasks
from dist_test.storage.slaves import microseconds


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A submit that this master is carrying out. `claim` fences it against a master that takes it up later."""

    job_key: int
    claim: int
    period: int
    first_tag: float
    weight: float
    expected: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Abandoned:
    """A submit whose master died: with its tasks stored it can be completed, without them only its client can."""

    job_key: int
    job_id: str
    has_tasks: bool


class Submissions:
    """Submits jobs on behalf of one master."""

    def __init__(self, database: Database, *, actor: str, lease: timedelta) -> None:
        self._database = database
        self._durations = Durations(database)
        self._actor = actor
        self._lease = lease

    def begin(self, job: Job) -> Submission | None:
        """Reserve the job's place; None when this very job was submitted before and all is done.

        Raises JobConflict when the id is taken by a job with other tasks, and SubmitInProgress while another master
        (or another request) holds the lease on submitting it.
        """
        expected = tuple(self._durations.expected(job.project, [task.description for task in job.tasks]))
        return self._database.run(lambda connection: self._begin(connection, job, expected))

    def store(self, submission: Submission, job: Job) -> list[int] | None:
        """Insert the job's tasks and first attempts, and give back their priorities; None when an earlier try did it.

        Raises SubmitInProgress when fenced.
        """
        order = schedule.order(submission.expected)
        costs = schedule.charges(submission.expected)
        given = schedule.tags([costs[place] for place in order], start=submission.first_tag, weight=submission.weight)
        tags = dict(zip(order, given, strict=True))
        task_rows = [_task_row(submission, index, task) for index, task in enumerate(job.tasks)]
        attempt_rows = [_attempt_row(submission, index, costs[index], tags[index]) for index in range(len(job.tasks))]
        is_new = self._database.run(lambda connection: self._store(connection, submission, task_rows, attempt_rows))
        return [row["priority"] for row in attempt_rows] if is_new else None

    def complete(self, submission: Submission) -> None:
        """Mark the job as enqueued. Raises SubmitInProgress when another master has taken the submit over."""
        self._database.run(lambda connection: self._complete(connection, submission))

    def keep(self, submission: Submission) -> None:
        """Extend the lease on submitting. Raises SubmitInProgress when another master has taken the submit over."""
        self._database.run(lambda connection: self._lock(connection, submission))

    def lapsed(self) -> list[Abandoned]:
        """The submits whose master has been silent for longer than the lease."""
        rows = self._database.run(lambda connection: connection.execute(_LAPSED).all())
        return [Abandoned(job_key=row.job_key, job_id=row.job_id, has_tasks=bool(row.has_tasks)) for row in rows]

    def adopt(self, abandoned: Abandoned) -> Submission | None:
        """Take over a lapsed submit whose tasks are stored, to put and complete it; None when somebody else did."""
        return self._database.run(lambda connection: self._adopt(connection, abandoned))

    def discard(self, abandoned: Abandoned, *, older_than: timedelta) -> bool:
        """Remove a submit that died before its tasks were stored: nobody was told that it had been accepted.

        False when it was taken up again, or lapsed less than `older_than` ago, so that its client may still repeat it.
        """
        values = {"job": abandoned.job_key, "age": microseconds(older_than)}
        return self._database.run(lambda connection: connection.execute(_DISCARD, values).rowcount) == 1

    def _adopt(self, connection: Connection, abandoned: Abandoned) -> Submission | None:
        values = {"job": abandoned.job_key, "lease": microseconds(self._lease)}
        if connection.execute(_ADOPT, values).rowcount != 1:
            return None
        row = connection.execute(select(jobs).where(jobs.c.job_key == abandoned.job_key)).one()
        return Submission(
            job_key=row.job_key,
            claim=row.submit_claim,
            period=row.period,
            first_tag=row.first_tag,
            weight=row.weight,
            expected=(),
        )

    def _begin(self, connection: Connection, job: Job, expected: tuple[float | None, ...]) -> Submission | None:
        period = lock_period(connection)
        row = connection.execute(_FIND, {"job_id": job.job_id}).one_or_none()
        if row is not None:
            return self._resume(connection, job, row, expected)
        period = begin_period_if_idle(connection, period)
        share = lock_share(connection, job.owner, period)
        start = max(virtual_time(connection, period), share.finish_tag)
        finish = start + sum(schedule.charges(expected)) / share.weight
        write_share(connection, replace(share, finish_tag=finish))
        key = self._insert(connection, job, period, start, share.weight)
        submitted = Event(job=key, kind="submitted", actor=self._actor, detail=f"{len(job.tasks)} tasks, {job.owner}")
        write_events(connection, [submitted])
        return Submission(job_key=key, claim=1, period=period, first_tag=start, weight=share.weight, expected=expected)

    def _resume(
        self, connection: Connection, job: Job, row: AnyRow, expected: tuple[float | None, ...]
    ) -> Submission | None:
        if row.fingerprint != job.fingerprint:
            raise JobConflict(f"job {job.job_id} is there already, with other tasks; submit under another job id")
        if row.state != "submitting":
            return None
        if not row.is_lapsed:
            raise SubmitInProgress(f"job {job.job_id} is being submitted by another request; ask again in a moment")
        connection.execute(_TAKE_OVER, {"job": row.job_key, "lease": microseconds(self._lease)})
        return Submission(
            job_key=row.job_key,
            claim=row.submit_claim + 1,
            period=row.period,
            first_tag=row.first_tag,
            weight=row.weight,
            expected=expected,
        )

    def _insert(self, connection: Connection, job: Job, period: int, first_tag: float, weight: float) -> int:
        values = {
            "job_id": job.job_id,
            "name": job.name,
            "project": job.project,
            "owner": job.owner,
            "fingerprint": job.fingerprint,
            "state": "submitting",
            "submit_claim": 1,
            "period": period,
            "first_tag": first_tag,
            "weight": weight,
            "max_failed_tasks": job.max_failed_tasks,
            "submitted_at": func.utc_timestamp(6),
            "submit_lease_until": _lease_end(self._lease),
            **vars(Counters.of_new_job(len(job.tasks))),
        }
        result = connection.execute(jobs.insert().values(values))
        return int(result.lastrowid)

    def _store(
        self,
        connection: Connection,
        submission: Submission,
        task_rows: list[dict[str, Any]],
        attempt_rows: list[dict[str, Any]],
    ) -> bool:
        self._lock(connection, submission)
        stored = select(func.count()).select_from(tasks).where(tasks.c.job_key == submission.job_key)
        if connection.execute(stored).scalar_one():
            return False
        insert_rows(connection, tasks, task_rows)
        insert_rows(connection, attempts, attempt_rows)
        return True

    def _complete(self, connection: Connection, submission: Submission) -> None:
        self._lock(connection, submission)
        row = connection.execute(select(jobs).where(jobs.c.job_key == submission.job_key)).one()
        # Slaves may have run everything while the last puts were under way.
        is_finished = row.finished_tasks == row.total_tasks
        values: dict[str, Any] = {"state": "finished" if is_finished else "running", "submit_lease_until": None}
        values |= {"enqueued_at": func.utc_timestamp(6), "finished_at": func.utc_timestamp(6) if is_finished else None}
        connection.execute(update(jobs).where(jobs.c.job_key == submission.job_key).values(values))
        write_events(connection, [Event(job=submission.job_key, kind="enqueued", actor=self._actor)])

    def _lock(self, connection: Connection, submission: Submission) -> None:
        result = connection.execute(
            update(jobs)
            .where(jobs.c.job_key == submission.job_key, jobs.c.state == "submitting")
            .where(jobs.c.submit_claim == submission.claim)
            .values(submit_lease_until=_lease_end(self._lease))
        )
        if result.rowcount != 1:
            raise SubmitInProgress("another master has taken this submit over; ask again in a moment")


_FIND = text("""
    SELECT job_key, fingerprint, state, submit_claim, submit_lease_until < UTC_TIMESTAMP(6) AS is_lapsed,
           period, first_tag, weight
    FROM jobs WHERE job_id = :job_id FOR UPDATE
""")

_LAPSED = text("""
    SELECT job_key, job_id, EXISTS (SELECT 1 FROM tasks WHERE tasks.job_key = jobs.job_key) AS has_tasks
    FROM jobs WHERE state = 'submitting' AND submit_lease_until < UTC_TIMESTAMP(6)
""")

_ADOPT = text("""
    UPDATE jobs
    SET submit_claim = submit_claim + 1, submit_lease_until = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND
    WHERE job_key = :job AND state = 'submitting' AND submit_lease_until < UTC_TIMESTAMP(6)
""")

_DISCARD = text("""
    DELETE FROM jobs
    WHERE job_key = :job AND state = 'submitting'
      AND submit_lease_until < UTC_TIMESTAMP(6) - INTERVAL :age MICROSECOND
      AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.job_key = :job)
""")

_TAKE_OVER = text("""
    UPDATE jobs
    SET submit_claim = submit_claim + 1, submit_lease_until = UTC_TIMESTAMP(6) + INTERVAL :lease MICROSECOND
    WHERE job_key = :job
""")


def _lease_end(lease: timedelta) -> Any:
    interval = text("INTERVAL :submit_lease MICROSECOND").bindparams(submit_lease=microseconds(lease))
    return func.utc_timestamp(6).op("+")(interval)


def _task_row(submission: Submission, index: int, task: Task) -> dict[str, Any]:
    return {
        "job_key": submission.job_key,
        "task_index": index,
        "isolate_hash": task.isolate_hash,
        "description": task.description,
        "timeout_seconds": task.timeout_seconds,
        "max_retries": task.max_retries,
        "expected_seconds": submission.expected[index],
        "options": options_text(task),
    }


def _attempt_row(submission: Submission, index: int, cost: float, tag: schedule.Tag) -> dict[str, Any]:
    return {
        "job_key": submission.job_key,
        "task_index": index,
        "attempt": 0,
        "charge_seconds": cost,
        "period": submission.period,
        "start_tag": tag.start,
        "finish_tag": tag.finish,
        "priority": schedule.first_priority(tag.start),
    }


def options_text(task: Task) -> str | None:
    """The rarer fields of a task as the JSON of the column `options`; None when it has none."""
    options: dict[str, Any] = {}
    if task.artifact_globs:
        options["artifact_archive_globs"] = list(task.artifact_globs)
    if task.docker_image is not None:
        options["docker_image"] = task.docker_image
    if task.env:
        options["env"] = dict(task.env)
    return json.dumps(options, separators=(",", ":")) if options else None


def task_from_row(row: AnyRow) -> Task:
    """The task in a row that has the columns of `tasks`."""
    options = json.loads(row.options) if row.options else {}
    return Task(
        isolate_hash=row.isolate_hash,
        description=row.description,
        timeout_seconds=row.timeout_seconds,
        max_retries=row.max_retries,
        artifact_globs=tuple(options.get("artifact_archive_globs", ())),
        docker_image=options.get("docker_image"),
        env=tuple(options.get("env", {}).items()),
    )
