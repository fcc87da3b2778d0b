"""The end of what running attempts have written. A row is there while somebody looks: nothing is written for nobody.

Who else may be here: another slave that holds a later claim on the attempt, a master that removes what nobody wants any
more. The slave's write is one conditional UPDATE; a reader compares the row's claim with the attempt's.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, text

from dist_test.model.result_key import STDERR, STDOUT
from dist_test.model.task import AttemptKey
from dist_test.model.written import Written
from dist_test.storage.claims import Claim
from dist_test.storage.database import Database
from dist_test.storage.schema import Moment
from dist_test.storage.slaves import microseconds

WANTED_FOR = timedelta(seconds=15)  # since the last look: long enough to bear the restart of a master
_REFRESH_BELOW = timedelta(seconds=10)  # a look costs no write while the row is wanted for longer than this
REMOVE_AFTER = timedelta(minutes=1)  # since nobody wants it
_REMOVED_AT_ONCE = 1000


@dataclass(frozen=True, kw_only=True)
class LiveLog:
    """One stream of a row. `claim` and `written_at` are None until a slave has written; `now` is the database's."""

    claim: int | None
    written_at: datetime | None
    written: Written
    now: datetime


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A row that somebody looks at, and what a slave last wrote to it: None before the first time."""

    key: AttemptKey
    claim: int | None
    stdout_bytes: int
    stderr_bytes: int


_READ = {
    name: text(f"""
        SELECT claim, written_at, {name}_bytes AS total_bytes, {name}_tail AS tail, UTC_TIMESTAMP(6) AS now,
               wanted_until < UTC_TIMESTAMP(6) + INTERVAL :refresh_below MICROSECOND AS is_due
        FROM live_logs WHERE job_key = :job AND task_index = :task AND attempt = :attempt
    """).columns(written_at=Moment, now=Moment)  # noqa: S608  # one of our two names
    for name in (STDOUT, STDERR)
}

# Two statements, since MariaDB wants rights to UPDATE every column of an INSERT … ON DUPLICATE KEY UPDATE.
# IGNORE: another look was faster.
_WANT_FIRST = text("""
    INSERT IGNORE INTO live_logs (job_key, task_index, attempt, wanted_until)
    VALUES (:job, :task, :attempt, UTC_TIMESTAMP(6) + INTERVAL :wanted_for MICROSECOND)
""")

_WANT_LONGER = text("""
    UPDATE live_logs SET wanted_until = UTC_TIMESTAMP(6) + INTERVAL :wanted_for MICROSECOND
    WHERE job_key = :job AND task_index = :task AND attempt = :attempt
""")

_WANTED = text("""
    SELECT job_key, task_index, attempt, claim, stdout_bytes, stderr_bytes FROM live_logs
    WHERE job_key IN :jobs AND wanted_until > UTC_TIMESTAMP(6)
""").bindparams(bindparam("jobs", expanding=True))

_WRITE = text("""
    UPDATE live_logs
    SET claim = :claim, written_at = UTC_TIMESTAMP(6), stdout_bytes = :stdout_bytes, stdout_tail = :stdout_tail,
        stderr_bytes = :stderr_bytes, stderr_tail = :stderr_tail
    WHERE job_key = :job AND task_index = :task AND attempt = :attempt
      AND wanted_until > UTC_TIMESTAMP(6) AND (claim IS NULL OR claim <= :claim)
""")

_REMOVE = text("""
    DELETE FROM live_logs WHERE wanted_until < UTC_TIMESTAMP(6) - INTERVAL :remove_after MICROSECOND LIMIT :at_once
""")


class LiveLogs:
    """The rows of `live_logs`. Each call is one attempt of one statement or two: who looks asks again soon."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, key: AttemptKey, stream: str, *, wants_more: bool) -> LiveLog | None:
        """What is there of the stream `stdout` or `stderr`, None before anybody has looked; for a master.

        wants_more: have the slave write for another WANTED_FOR. A row that is there is kept as long in any case.
        """
        values = {**_columns(key), "refresh_below": microseconds(_REFRESH_BELOW)}
        row = self._database.run_each(lambda connection: connection.execute(_READ[stream], values).one_or_none())
        if wants_more if row is None else row.is_due:
            wish = {**_columns(key), "wanted_for": microseconds(WANTED_FOR)}
            statement = _WANT_FIRST if row is None else _WANT_LONGER
            self._database.run_each(lambda connection: connection.execute(statement, wish))
        if row is None:
            return None
        written = Written(total_bytes=row.total_bytes, tail=row.tail or b"")
        return LiveLog(claim=row.claim, written_at=row.written_at, written=written, now=row.now)

    def wanted(self, jobs: Collection[int]) -> list[Wanted]:
        """What somebody looks at in these jobs; for a slave."""
        values = {"jobs": sorted(jobs)}
        rows = self._database.run_each(lambda connection: connection.execute(_WANTED, values).all(), attempts=1)
        return [
            Wanted(
                key=AttemptKey(row.job_key, row.task_index, row.attempt),
                claim=row.claim,
                stdout_bytes=row.stdout_bytes,
                stderr_bytes=row.stderr_bytes,
            )
            for row in rows
        ]

    def write(self, claim: Claim, written: Mapping[str, Written]) -> bool:
        """Write what there is by stream; False when nobody looks any more or a later claim has written."""
        values = {**_columns(claim.key), "claim": claim.number}
        for name in (STDOUT, STDERR):
            values |= {f"{name}_bytes": written[name].total_bytes, f"{name}_tail": written[name].tail}
        return self._database.run_each(lambda connection: connection.execute(_WRITE, values).rowcount, attempts=1) == 1

    def remove_unwanted(self) -> int:
        """Remove the rows that nobody has looked at for REMOVE_AFTER; say how many, at most 1,000 at once."""
        values = {"remove_after": microseconds(REMOVE_AFTER), "at_once": _REMOVED_AT_ONCE}
        return self._database.run_each(lambda connection: connection.execute(_REMOVE, values).rowcount)


def _columns(key: AttemptKey) -> dict[str, object]:
    return {"job": key.job, "task": key.task, "attempt": key.attempt}
