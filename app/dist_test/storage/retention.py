"""What pruning does to the database: finished jobs go, and with them all that belongs to them.

Who else may be here: slaves that record results and masters that take jobs, all of them about other jobs. Nothing makes
a finished job run again, so what has been found finished may be removed row by row. The job's own row goes last: until
then a repetition finds the job again, and its id is not free for another one.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Executable, Row, select, text

from dist_test.storage.database import Database
from dist_test.storage.schema import Moment, jobs
from dist_test.storage.slaves import microseconds

ROWS_AT_ONCE = 500  # some 10 ms under a lock
_PAGE = 100  # jobs
# Not the age that jobs are kept for: a test that runs once in a quarter is better guessed than not known at all.
DURATIONS_KEPT = timedelta(days=400)
_LONGEST_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class OldJob:
    """A job that ended long ago. `attempts`: its rows in that table."""

    job_key: int
    job_id: str
    owner: str
    finished_at: datetime
    attempts: int


class _Removal(NamedTuple):
    """A statement that removes some rows of one job at once."""

    table: str
    statement: Executable


# In the order of their primary keys where the job is the first part of that. events have an index on the job.
_REMOVALS = (
    _Removal("events", text("DELETE FROM events WHERE job_key = :job LIMIT :most")),
    _Removal("live_logs", text("DELETE FROM live_logs WHERE job_key = :job LIMIT :most")),
    _Removal(
        "attempts", text("DELETE FROM attempts WHERE job_key = :job ORDER BY job_key, task_index, attempt LIMIT :most")
    ),
    _Removal("tasks", text("DELETE FROM tasks WHERE job_key = :job ORDER BY job_key, task_index LIMIT :most")),
    _Removal("jobs", text("DELETE FROM jobs WHERE job_key = :job AND state = 'finished' LIMIT :most")),
)

_CUTOFF = text("SELECT UTC_TIMESTAMP(6) - INTERVAL :age MICROSECOND AS cutoff").columns(cutoff=Moment)
# By the index on the state, which goes on with the job's key.
_OLD = text("""
    SELECT job_key, job_id, owner, finished_at, total_attempts AS attempts FROM jobs
    WHERE state = 'finished' AND finished_at < :cutoff AND job_key > :after
    ORDER BY job_key LIMIT :most
""").columns(finished_at=Moment)

_OLD_DURATIONS = text("""
    SELECT duration_key, updated_at < UTC_TIMESTAMP(6) - INTERVAL :age MICROSECOND AS is_old FROM durations
    WHERE duration_key > :after ORDER BY duration_key LIMIT :most
""")
# It may have been learned from again since it was found old.
_FORGET = text("""
    DELETE FROM durations
    WHERE duration_key = :key AND updated_at < UTC_TIMESTAMP(6) - INTERVAL :age MICROSECOND
""")


class Retention:
    """Finds and removes what is too old. Raises DatabaseUnavailable and DatabaseRefused throughout.

    Works half of the time at most: after each statement it pauses for as long as that took.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._clock = clock
        self._sleep = sleep

    def cutoff(self, age: timedelta) -> datetime:
        """The time so long ago, by the database's clock."""
        values = {"age": microseconds(age)}
        cutoff: datetime = self._database.run(lambda connection: connection.execute(_CUTOFF, values).scalar_one())
        return cutoff

    def old_jobs(self, cutoff: datetime) -> Iterator[OldJob]:
        """The jobs that ended before, oldest first. They may be removed between two of them."""
        after = 0
        while page := self._page(cutoff, after):
            yield from page
            after = page[-1].job_key

    def remove(self, job: OldJob, *, fence: Callable[[], None]) -> None:
        """Remove all rows of a job that old_jobs() gave. `fence` is called before each statement, and may raise."""
        for removal in _REMOVALS:
            values = {"job": job.job_key, "most": ROWS_AT_ONCE}
            while True:
                fence()
                if self._paced(removal.statement, values) < ROWS_AT_ONCE:
                    break

    def unknown(self, job_ids: Sequence[str]) -> set[str]:
        """Those of the ids that no job has."""
        query = select(jobs.c.job_id).where(jobs.c.job_id.in_(job_ids))
        known = self._database.run(lambda connection: connection.execute(query).scalars().all())
        return set(job_ids) - set(known)

    def forget_durations(self, *, is_dry: bool, fence: Callable[[], None]) -> int:
        """Forget the tests that no job has run for DURATIONS_KEPT; say how many. `is_dry`: only count them."""
        forgotten = 0
        for key in self._old_durations():
            fence()
            values = {"key": key, "age": microseconds(DURATIONS_KEPT)}
            forgotten += 1 if is_dry else self._paced(_FORGET, values)
        return forgotten

    def _old_durations(self) -> Iterator[str]:
        after = ""
        while page := self._durations_page(after):
            yield from (row.duration_key for row in page if row.is_old)
            after = page[-1].duration_key

    def _durations_page(self, after: str) -> Sequence[Row[tuple[str, int]]]:
        values = {"after": after, "age": microseconds(DURATIONS_KEPT), "most": ROWS_AT_ONCE}
        return self._database.run(lambda connection: connection.execute(_OLD_DURATIONS, values).all())

    def _page(self, cutoff: datetime, after: int) -> list[OldJob]:
        values = {"cutoff": cutoff.replace(tzinfo=None), "after": after, "most": _PAGE}
        rows = self._database.run(lambda connection: connection.execute(_OLD, values).all())
        return [OldJob(**row._mapping) for row in rows]

    def _paced(self, statement: Executable, values: Mapping[str, object]) -> int:
        began = self._clock()
        rows = self._database.run(lambda connection: connection.execute(statement, values).rowcount)
        self._sleep(min(self._clock() - began, _LONGEST_PAUSE_SECONDS))
        return rows
