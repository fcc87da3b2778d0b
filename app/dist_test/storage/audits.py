"""What an audit of a job needs, as of one moment: MySQL counts and compares, only what is wrong is read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, select, text

from dist_test.model.group import SETUP_FAILURES_ALLOWED
from dist_test.model.outcome import Outcome
from dist_test.model.summary import COUNTER_NAMES, Counters
from dist_test.model.task import AttemptKey
from dist_test.storage.database import Database
from dist_test.storage.events import Event, events_of_attempt
from dist_test.storage.schema import AnyRow, jobs

MOST_OF_A_KIND = 100  # breaches of one kind that are named; a job that was damaged whole would have 100,000


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Rows that cannot be true together; `key` is None when they are of the job as a whole."""

    reason: str
    key: AttemptKey | None = None


@dataclass(frozen=True, kw_only=True)
class AuditedJob:
    """A job as of one moment. `ended`, `running` and `waiting` count its tasks by their last attempt."""

    job_key: int
    job_id: str
    state: str
    counters: Counters
    recounted: Counters
    ended: int
    running: int
    waiting: int
    contradictions: tuple[Contradiction, ...]


class Audits:
    """Reads for audits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, job_key: int) -> AuditedJob | None:
        """One job, all of it from one snapshot; None when it is gone, pruned say."""
        return self._database.run(lambda connection: _read(connection, job_key))

    def events(self, key: AttemptKey) -> list[Event]:
        """What happened to one attempt."""
        return self._database.run(lambda connection: events_of_attempt(connection, key))


# The attempts with their neighbours, and what each must have inherited.
_SEEN = """
    WITH seen AS (
        SELECT task_index, attempt, outcome, finished_at, prior_failures, prior_setup_failures,
               lease_until >= UTC_TIMESTAMP(6) AS is_leased,
               outcome IN ('failed', 'timed_out') AS is_failure,
               LEAD(attempt) OVER by_task AS following,
               LAG(attempt) OVER by_task AS previous,
               LAG(outcome) OVER by_task AS previous_outcome,
               LAG(prior_failures) OVER by_task AS previous_failures,
               LAG(prior_setup_failures) OVER by_task AS previous_setup_failures
        FROM attempts WHERE job_key = :job
        WINDOW by_task AS (PARTITION BY task_index ORDER BY attempt)
    )
"""
# model.group.ending and model.summary.recount, which tests hold this against.
_RECOUNT = text(f"""
    {_SEEN}
    SELECT COUNT(*) AS total_tasks,
           SUM(last <> '') AS finished_tasks,
           SUM(last = 'succeeded') AS succeeded_tasks,
           SUM(last NOT IN ('', 'succeeded')) AS failed_tasks,
           SUM(last = 'canceled') AS canceled_tasks,
           SUM(last = 'succeeded' AND failures > 0) AS flaky_tasks,
           SUM(last = '' AND failures > 0) AS retrying_tasks,
           SUM(attempts) AS total_attempts,
           SUM(finished) AS finished_attempts,
           SUM(succeeded) AS succeeded_attempts,
           SUM(timed_out) AS timed_out_attempts,
           SUM(attempts - 1) AS retried_attempts,
           SUM(IF(last IN ('', 'succeeded') AND failures > 0, attempts - succeeded, 0)) AS flaky_attempts,
           SUM(last = '' AND is_running) AS running
    FROM (
        SELECT task_index, COUNT(*) AS attempts,
               COUNT(outcome) AS finished,
               COUNT(IF(outcome = 'succeeded', 1, NULL)) AS succeeded,
               COUNT(IF(outcome = 'timed_out', 1, NULL)) AS timed_out,
               COUNT(IF(is_failure, 1, NULL)) AS failures,
               MAX(IF(following IS NULL, COALESCE(outcome, ''), '')) AS last,
               MAX(IF(following IS NULL, COALESCE(is_leased, 0), 0)) AS is_running
        FROM seen GROUP BY task_index
    ) AS ends
""")  # noqa: S608 - our own text
_LIMIT = f"ORDER BY task_index, attempt LIMIT {MOST_OF_A_KIND + 1:d}"

_NO_ATTEMPTS = text(f"""
    SELECT tasks.task_index, 0 AS attempt FROM tasks LEFT JOIN attempts USING (job_key, task_index)
    WHERE tasks.job_key = :job AND attempts.attempt IS NULL {_LIMIT}
""")  # noqa: S608 - our own text
# What an attempt's neighbours say against it. A retry must be there when outcome and budget ask for it, and only then.
_ROWS = text(f"""
    {_SEEN}
    , judged AS (
        SELECT seen.*,
               attempt <> COALESCE(previous, -1) + 1 AS is_after_hole,
               CASE WHEN is_failure THEN prior_failures < tasks.max_retries
                    WHEN outcome = 'setup_failed' THEN prior_setup_failures + 1 < :setup_failures
                    ELSE 0 END AS has_budget,
               prior_failures <> COALESCE(previous_failures + (previous_outcome IN ('failed', 'timed_out')), 0)
               OR prior_setup_failures <> COALESCE(previous_setup_failures + (previous_outcome = 'setup_failed'), 0)
               AS has_other_history
        FROM seen JOIN tasks ON tasks.job_key = :job AND tasks.task_index = seen.task_index
    )
    SELECT * FROM (
        SELECT judged.*,
               following IS NULL AND has_budget AND NOT :canceled AS lacks_retry,
               following IS NOT NULL AND (outcome IS NULL OR NOT has_budget) AS has_retry_undue,
               (outcome IS NULL) <> (finished_at IS NULL) AS is_half_finished
        FROM judged
    ) AS verdicts
    WHERE is_after_hole OR lacks_retry OR has_retry_undue OR has_other_history OR is_half_finished {_LIMIT}
""")  # noqa: S608 - our own text
# What the rows say, and what their events: one must not be without the other. A claim that is given back raises the
# number as well. A cancel is one event for the whole job.
_EVENTS = text(f"""
    SELECT task_index, attempt, MAX(is_row) AS has_row, MAX(row_claim) AS claim, MAX(row_outcome) AS outcome,
           MAX(event_claim) AS told_claim, MAX(event_outcome) AS told_outcome, SUM(is_finish) AS finishes
    FROM (
        SELECT task_index, attempt, 1 AS is_row, claim AS row_claim, outcome AS row_outcome,
               0 AS event_claim, NULL AS event_outcome, 0 AS is_finish
        FROM attempts WHERE job_key = :job
        UNION ALL
        SELECT task_index, attempt, 0, 0, NULL,
               CASE kind WHEN 'claimed' THEN claim WHEN 'released' THEN claim + 1 ELSE 0 END,
               IF(kind = 'finished', LEFT(detail, 16), NULL), kind = 'finished'
        FROM events WHERE job_key = :job AND task_index IS NOT NULL
    ) AS told
    GROUP BY task_index, attempt
    HAVING has_row = 0 OR finishes <> (outcome IS NOT NULL AND outcome <> 'canceled') OR told_claim <> claim
        OR told_outcome <> outcome
    {_LIMIT}
""")  # noqa: S608 - our own text
_KINDS = text("SELECT DISTINCT kind FROM events WHERE job_key = :job AND task_index IS NULL")


def _read(connection: Connection, job_key: int) -> AuditedJob | None:
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    job = connection.execute(select(jobs).where(jobs.c.job_key == job_key)).one_or_none()
    if job is None:
        return None
    counted = connection.execute(_RECOUNT, {"job": job_key}).one()
    recounted = Counters(**{name: int(getattr(counted, name) or 0) for name in COUNTER_NAMES})
    running = int(counted.running or 0)
    return AuditedJob(
        job_key=job_key,
        job_id=job.job_id,
        state=job.state,
        counters=Counters(**{name: getattr(job, name) for name in COUNTER_NAMES}),
        recounted=recounted,
        ended=recounted.finished_tasks,
        running=running,
        waiting=recounted.total_tasks - recounted.finished_tasks - running,
        # Until it is submitted there may be no rows yet.
        contradictions=() if job.state == "submitting" else tuple(_contradictions(connection, job, recounted)),
    )


def _contradictions(connection: Connection, job: AnyRow, recounted: Counters) -> Iterator[Contradiction]:
    kinds = set(connection.execute(_KINDS, {"job": job.job_key}).scalars())
    due = {"submitted", "enqueued"} | ({"canceled"} if recounted.canceled_tasks else set())
    yield from (Contradiction(reason=f"it has no event that it was {kind}") for kind in sorted(due - kinds))
    values = {
        "job": job.job_key,
        "canceled": int(job.cancel_reason is not None),
        "setup_failures": SETUP_FAILURES_ALLOWED,
    }
    for statement, reasons in _RULES:
        rows = connection.execute(statement, values).all()
        for row in rows[:MOST_OF_A_KIND]:
            key = AttemptKey(job.job_key, row.task_index, row.attempt)
            yield from (Contradiction(key=key, reason=reason) for reason in reasons(row))
        if len(rows) > MOST_OF_A_KIND:
            yield Contradiction(reason=f"there are more than the {MOST_OF_A_KIND} named of the kind just before")


def _no_attempts(_: AnyRow) -> Iterable[str]:
    yield "its task has no attempt at all"


def _row(row: AnyRow) -> Iterable[str]:
    if row.is_after_hole:
        yield f"attempt {0 if row.previous is None else row.previous + 1} is missing before it"
    if row.lacks_retry:
        yield f"it ended {row.outcome}, and the next attempt is missing"
    if row.has_retry_undue and row.outcome is None:
        yield f"it has not ended, but attempt {row.following} is there already"
    elif row.has_retry_undue:
        yield f"it ended {row.outcome} for good, but attempt {row.following} followed"
    if row.has_other_history:
        yield (
            f"its row counts {row.prior_failures} failures and {row.prior_setup_failures} failures of the setup before"
            " it, the attempts before it do not"
        )
    if row.is_half_finished:
        yield f"its outcome is {row.outcome}, but it was finished at {row.finished_at}"


def _told(row: AnyRow) -> Iterable[str]:
    if not row.has_row:
        yield "its events are there, but it has no row"
        return
    is_finish_due = row.outcome is not None and row.outcome != Outcome.CANCELED
    if row.finishes != is_finish_due:
        yield f"it was finished {row.finishes} times, its outcome is {row.outcome}"
    elif row.told_outcome is not None and row.told_outcome != row.outcome:
        yield f"it was finished as {row.told_outcome}, its outcome is {row.outcome}"
    if row.told_claim != row.claim:
        yield f"its claim is {row.claim}, its events tell of {row.told_claim}"


_RULES: Sequence[tuple[TextClause, Callable[[AnyRow], Iterable[str]]]] = (
    (_NO_ATTEMPTS, _no_attempts),
    (_ROWS, _row),
    (_EVENTS, _told),
)
