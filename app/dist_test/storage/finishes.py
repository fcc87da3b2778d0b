"""Record how attempts ended: their rows, their jobs' counters, the next attempts and the events, in one transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, func, select, text, update

from dist_test.model import schedule
from dist_test.model.group import Ending, History, ending
from dist_test.model.outcome import Outcome
from dist_test.model.summary import COUNTER_NAMES, Counters, change
from dist_test.model.task import AttemptKey, QueueEntry, Task
from dist_test.storage.bulk import insert_rows, update_rows
from dist_test.storage.claims import TAKEOVERS_ALLOWED, Claim
from dist_test.storage.database import Database
from dist_test.storage.durations import Durations, Observation
from dist_test.storage.events import Event, write_events
from dist_test.storage.fairness import Share, lock_share, read_period, virtual_time, write_share
from dist_test.storage.schema import AnyRow, attempts, jobs

MAX_MESSAGE_CHARACTERS = 1000
MAX_SLAVES_AVOIDED = 10


@dataclass(frozen=True, kw_only=True)
class Result:
    """How an attempt ended, under which claim. Sizes are of what was uploaded, None for nothing.

    `exit_status` is the exit code, or minus the signal's number. `task` is what was run. `waited_seconds`: from its
    claim to its start.
    """

    claim: Claim
    outcome: Outcome
    task: Task
    exit_status: int | None = None
    duration_seconds: float = 0.0
    waited_seconds: float = 0.0
    message: str = ""
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    artifact_bytes: int | None = None
    logs_lost: bool = False


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What became of a batch of results: those that counted, and the failed attempts that get another one."""

    counted: frozenset[Claim]
    retried: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class _JobFacts:
    """What never changes about a job."""

    owner: str
    project: str


class Finishes:
    """Records results; one for each slave. record() and learn() are called by one thread."""

    def __init__(self, database: Database, *, slave_id: str) -> None:
        self._database = database
        self._slave_id = slave_id
        self._durations = Durations(database)
        self._observed: list[Observation] = []
        self._facts: dict[int, _JobFacts] = {}

    def record(self, results: Sequence[Result]) -> Recorded:
        """Write the results whose claim is still the row's; what comes from an older claim changes nothing.

        Safe to repeat with the same results: those already written are found finished. Raises DatabaseUnavailable,
        and then the caller keeps the results and tries again.
        """
        facts = self._job_facts({result.claim.key.job for result in results})
        # A job without facts was pruned meanwhile.
        ordered = sorted((one for one in results if one.claim.key.job in facts), key=lambda result: result.claim.key)
        recorded = self._database.run(lambda connection: _record(connection, ordered, facts, self._slave_id))
        counted = [result for result in ordered if result.claim in recorded.counted]
        self._observed += [_observation(result, facts) for result in counted if result.outcome.is_measured]
        return recorded

    def learn(self) -> None:
        """Write what was observed since the last call into the history, which may lag behind a little, or lose some."""
        observed, self._observed = self._observed, []
        self._durations.observe(observed)

    def record_lost(self, entry: QueueEntry) -> bool:
        """Finish an attempt that has outlived too many slaves as `lost`; False when it is not, or no longer, one."""
        facts = self._job_facts({entry.key.job})
        return self._database.run(lambda connection: _record_lost(connection, entry, facts, self._slave_id))

    def _job_facts(self, keys: set[int]) -> dict[int, _JobFacts]:
        missing = [key for key in keys if key not in self._facts]
        if missing:
            if len(self._facts) > 10_000:  # a slave that runs for months must not grow
                self._facts.clear()
                missing = list(keys)
            query = select(jobs.c.job_key, jobs.c.owner, jobs.c.project).where(jobs.c.job_key.in_(missing))
            for row in self._database.run(lambda connection: connection.execute(query).all()):
                self._facts[row.job_key] = _JobFacts(owner=row.owner, project=row.project)
        return {key: self._facts[key] for key in keys if key in self._facts}


def _observation(result: Result, facts: dict[int, _JobFacts]) -> Observation:
    timed_out = result.outcome is Outcome.TIMED_OUT
    seconds = float(result.task.timeout_seconds) if timed_out else result.duration_seconds
    project = facts[result.claim.key.job].project
    return Observation(project=project, description=result.task.description, seconds=seconds)


def _record(connection: Connection, results: Sequence[Result], facts: dict[int, _JobFacts], actor: str) -> Recorded:
    shares = _lock_shares(connection, results, facts)
    job_rows = _lock_jobs(connection, sorted({result.claim.key.job for result in results}))
    attempt_rows = _lock_attempts(connection, [result.claim.key for result in results])
    valid = [result for result in results if _is_valid(attempt_rows.get(result.claim.key), result.claim)]
    if not valid:
        return Recorded(counted=frozenset(), retried=())
    endings = {result.claim: _ending(result, attempt_rows, job_rows) for result in valid}
    _write_attempts(connection, valid, attempt_rows)
    _write_jobs(connection, valid, endings, attempt_rows, job_rows)
    retried = [result for result in valid if endings[result.claim] is Ending.RETRY]
    _write_retries(connection, retried, attempt_rows, job_rows, shares)
    write_events(connection, list(_events(valid, endings, actor)))
    return Recorded(
        counted=frozenset(result.claim for result in valid), retried=tuple(result.claim for result in retried)
    )


def _lock_shares(connection: Connection, results: Iterable[Result], facts: dict[int, _JobFacts]) -> dict[str, Share]:
    # Only retries are charged here, so a batch of successes need not queue for its owner's row.
    owners = {facts[result.claim.key.job].owner for result in results if result.outcome is not Outcome.SUCCEEDED}
    if not owners:
        return {}
    period = read_period(connection)
    return {owner: lock_share(connection, owner, period) for owner in sorted(owners)}


# Statements of the hot path are made once.
_JOB_COLUMNS = (
    jobs.c.job_key,
    jobs.c.owner,
    jobs.c.state,
    jobs.c.cancel_reason,
    jobs.c.max_failed_tasks,
    *(jobs.c[name] for name in COUNTER_NAMES),
)
_LOCK_JOBS = (
    select(*_JOB_COLUMNS)
    .where(jobs.c.job_key.in_(bindparam("keys", expanding=True)))
    .order_by(jobs.c.job_key)
    .with_for_update()
)


def _lock_jobs(connection: Connection, keys: Sequence[int]) -> dict[int, AnyRow]:
    rows: Sequence[AnyRow] = connection.execute(_LOCK_JOBS, {"keys": keys}).all()
    return {row.job_key: row for row in rows}


_LOCK_ATTEMPTS = (
    select(
        attempts.c.job_key,
        attempts.c.task_index,
        attempts.c.attempt,
        attempts.c.claim,
        attempts.c.started_at,
        attempts.c.finished_at,
        attempts.c.prior_failures,
        attempts.c.prior_setup_failures,
        attempts.c.avoid_slaves,
        attempts.c.slave_id,
        attempts.c.charge_seconds,
        attempts.c.priority,
    )
    .where(
        attempts.c.job_key == bindparam("job"),
        attempts.c.attempt == bindparam("number"),
        attempts.c.task_index.in_(bindparam("indexes", expanding=True)),
    )
    .order_by(attempts.c.task_index)
    .with_for_update()
)


def _lock_attempts(connection: Connection, keys: Sequence[AttemptKey]) -> dict[AttemptKey, AnyRow]:
    # Not in the order of the keys where a job's attempts differ in number; but whoever finishes attempts has locked
    # their jobs before, so they never wait for one another here.
    places: dict[tuple[int, int], list[int]] = {}
    for key in keys:
        places.setdefault((key.job, key.attempt), []).append(key.task)
    found: dict[AttemptKey, AnyRow] = {}
    for (job, number), indexes in sorted(places.items()):
        rows = connection.execute(_LOCK_ATTEMPTS, {"job": job, "number": number, "indexes": indexes}).all()
        found |= {AttemptKey(row.job_key, row.task_index, row.attempt): row for row in rows}
    return found


def _is_valid(row: AnyRow | None, claim: Claim) -> bool:
    # None: pruned. Another claim: the lease lapsed and another slave took it. Finished: canceled, or a repetition.
    return row is not None and row.claim == claim.number and row.finished_at is None


def _history(row: AnyRow) -> History:
    return History(failures=row.prior_failures, setup_failures=row.prior_setup_failures)


def _ending(result: Result, attempt_rows: dict[AttemptKey, AnyRow], job_rows: dict[int, AnyRow]) -> Ending:
    row = attempt_rows[result.claim.key]
    canceled = job_rows[result.claim.key.job].cancel_reason is not None
    return ending(result.outcome, _history(row), max_retries=result.task.max_retries, job_is_canceled=canceled)


def _write_attempts(connection: Connection, results: Sequence[Result], attempt_rows: dict[AttemptKey, AnyRow]) -> None:
    rows = [
        {
            "job_key": result.claim.key.job,
            "task_index": result.claim.key.task,
            "attempt": result.claim.key.attempt,
            "started_at": attempt_rows[result.claim.key].started_at + timedelta(seconds=result.waited_seconds),
            "lease_until": None,
            "outcome": result.outcome.value,
            "exit_status": result.exit_status,
            "duration_seconds": result.duration_seconds,
            "message": _storable(result.message),
            "stdout_bytes": result.stdout_bytes,
            "stderr_bytes": result.stderr_bytes,
            "artifact_bytes": result.artifact_bytes,
            "logs_lost": int(result.logs_lost),
        }
        for result in results
    ]
    update_rows(connection, attempts, rows, now="finished_at")


def _storable(message: str) -> str | None:
    # File names of any bytes come as lone surrogates, which no column takes.
    return message.encode("utf-8", "replace").decode()[:MAX_MESSAGE_CHARACTERS] or None


def _write_jobs(
    connection: Connection,
    results: Sequence[Result],
    endings: dict[Claim, Ending],
    attempt_rows: dict[AttemptKey, AnyRow],
    job_rows: dict[int, AnyRow],
) -> None:
    for job, batch in groupby(results, key=lambda result: result.claim.key.job):
        changes = (
            change(
                attempt=result.claim.key.attempt,
                outcome=result.outcome,
                before=_history(attempt_rows[result.claim.key]),
                end=endings[result.claim],
            )
            for result in batch
        )
        write_counters(connection, job_rows[job], sum(changes, Counters()))


def write_counters(connection: Connection, job: AnyRow, difference: Counters) -> None:
    """Add `difference` to the counters of a locked job, and mark the job when that ends it or makes it stop."""
    counters = Counters(**{name: getattr(job, name) for name in COUNTER_NAMES}) + difference
    ends = counters.is_finished and job.state == "running"
    reason = job.cancel_reason
    own_failures = counters.failed_tasks - counters.canceled_tasks
    if job.max_failed_tasks is not None and own_failures > job.max_failed_tasks and reason is None:
        # The reconciler cancels what is left within a round; from now on nothing of the job is tried again.
        reason = f"more than {job.max_failed_tasks} tasks failed"
    values = {f"new_{name}": value for name, value in vars(counters).items()}
    connection.execute(_UPDATE_JOB, {"key": job.job_key, "ends": int(ends), "reason": reason, **values})


_UPDATE_JOB = (
    update(jobs)
    .where(jobs.c.job_key == bindparam("key"))
    .values(
        cancel_reason=bindparam("reason"),
        state=func.IF(bindparam("ends"), "finished", jobs.c.state),
        finished_at=func.IF(bindparam("ends"), func.utc_timestamp(6), jobs.c.finished_at),
        **{name: bindparam(f"new_{name}") for name in COUNTER_NAMES},
    )
)


def _write_retries(
    connection: Connection,
    retried: Sequence[Result],
    attempt_rows: dict[AttemptKey, AnyRow],
    job_rows: dict[int, AnyRow],
    shares: dict[str, Share],
) -> None:
    rows = []
    front = _Front(connection, job_rows)
    for result in retried:
        job, failed = job_rows[result.claim.key.job], attempt_rows[result.claim.key]
        # A promoted job's retries take no place among those of the owner's other jobs.
        boost = schedule.is_promoted(failed.priority) or front.takes(job)
        shares[job.owner], row = _retry_row(connection, result, failed, shares[job.owner], boost)
        rows.append(row)
    for owner in sorted({job_rows[result.claim.key.job].owner for result in retried}):
        write_share(connection, shares[owner])
    insert_rows(connection, attempts, rows)


class _Front:
    """The places before everybody's first attempts, which are for the few retries of jobs that mostly succeed.

    A limit on what waits there is not enough: it would be filled up again and again, and each task of a job that fails
    keep a slot until its retries are used up.
    """

    def __init__(self, connection: Connection, job_rows: dict[int, AnyRow]) -> None:
        self._connection = connection
        self._retries = {key: row.retried_attempts for key, row in job_rows.items()}
        self._waiting: dict[str, int] = {}

    def takes(self, job: AnyRow) -> bool:
        """Whether one more retry of a job, whose row was read before these results, may stand there."""
        self._retries[job.job_key] += 1
        if self._retries[job.job_key] > schedule.retries_boosted(job.finished_attempts):
            return False
        if job.owner not in self._waiting:
            self._waiting[job.owner] = _boosted_retries(self._connection, job.owner)
        if self._waiting[job.owner] >= schedule.retries_boosted(job.total_tasks):
            return False
        self._waiting[job.owner] += 1
        return True


def _boosted_retries(connection: Connection, owner: str) -> int:
    query = text("""
        SELECT COUNT(*) FROM jobs JOIN attempts USING (job_key)
        WHERE jobs.owner = :owner AND jobs.state = 'running'
          AND attempts.finished_at IS NULL AND attempts.has_started = 0
          AND attempts.priority BETWEEN :first AND :last
    """)
    values = {"owner": owner, "first": schedule.RETRY_BAND, "last": schedule.RETRY_TOP}
    return int(connection.execute(query, values).scalar_one())


def _retry_row(
    connection: Connection, result: Result, row: AnyRow, share: Share, boost: bool
) -> tuple[Share, dict[str, Any]]:
    key = result.claim.key.next()
    cost = row.charge_seconds / share.weight
    history = _history(row).after(result.outcome)
    tag = schedule.Tag(start=0.0, finish=0.0)
    if boost:
        is_promoted = schedule.is_promoted(row.priority)
        band = schedule.promoted_retry_priority if is_promoted else schedule.retry_priority
        priority = band(key.attempt)
        share = replace(share, retry_charge=share.retry_charge + cost, finish_tag=share.finish_tag + cost)
    else:
        start = max(virtual_time(connection, share.period), share.finish_tag)
        tag = schedule.Tag(start=start, finish=start + cost)
        priority = schedule.first_priority(start)
        share = replace(share, finish_tag=tag.finish)
    return share, {
        "job_key": key.job,
        "task_index": key.task,
        "attempt": key.attempt,
        "prior_failures": history.failures,
        "prior_setup_failures": history.setup_failures,
        "avoid_slaves": _with_slave(row.avoid_slaves, row.slave_id),
        "charge_seconds": row.charge_seconds,
        "period": share.period,
        "start_tag": tag.start,
        "finish_tag": tag.finish,
        "priority": priority,
    }


def _with_slave(slaves: str | None, slave_id: str) -> str:
    names = slaves.split("\n") if slaves else []
    # The queue entry names them, and its size has a limit.
    return "\n".join((names if slave_id in names else [*names, slave_id])[-MAX_SLAVES_AVOIDED:])


def _events(results: Iterable[Result], endings: dict[Claim, Ending], actor: str) -> Iterable[Event]:
    for result in results:
        key = result.claim.key
        claim = result.claim.number
        yield Event(job=key.job, kind="finished", actor=actor, key=key, claim=claim, detail=result.outcome.value)
        if endings[result.claim] is Ending.RETRY:
            yield Event(job=key.job, kind="retried", actor=actor, key=key.next())


def _record_lost(connection: Connection, entry: QueueEntry, facts: dict[int, _JobFacts], actor: str) -> bool:
    key = entry.key
    poisoned = text("""
        SELECT claim FROM attempts
        WHERE job_key = :job AND task_index = :task AND attempt = :attempt
          AND finished_at IS NULL AND lease_until < UTC_TIMESTAMP(6) AND takeovers >= :allowed
    """)
    number = connection.execute(
        poisoned, {"job": key.job, "task": key.task, "attempt": key.attempt, "allowed": TAKEOVERS_ALLOWED}
    ).scalar()
    if number is None:  # another slave has recorded it, or it was canceled
        return False
    lost = Result(
        claim=Claim(key=key, number=number),
        outcome=Outcome.LOST,
        task=entry.task,
        message=f"given up: {TAKEOVERS_ALLOWED + 1} slaves in a row vanished while they ran it",
    )
    return bool(_record(connection, [lost], facts, actor).counted)
