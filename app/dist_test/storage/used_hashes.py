"""The isolate hashes of the jobs that are in the database: what pruning blobs starts from.

`dist-test-isolate prune` has no other right than to read these columns.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, text

from dist_test.storage.database import Database
from dist_test.storage.jobs import UNFINISHED_STATES
from dist_test.storage.schema import jobs, tasks

_PAGE = 200  # jobs in one statement; each may have 200,000 tasks


class UsedHashes:
    """Reads them, page by page. Raises DatabaseUnavailable and DatabaseRefused."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_all_jobs(self) -> Iterator[str]:
        """Those of every job there is, whatever its state; some more than once."""
        return self._of_jobs(jobs.c.job_key > 0)

    def of_live_jobs(self, *, submitted_within: timedelta) -> Iterator[str]:
        """Those of the jobs that are not finished, and of those submitted so lately that they may just have been."""
        since = func.utc_timestamp(6) - text(f"INTERVAL {submitted_within // timedelta(seconds=1):d} SECOND")
        return self._of_jobs(or_(jobs.c.state.in_(UNFINISHED_STATES), jobs.c.submitted_at >= since))

    def _of_jobs(self, which: ColumnElement[bool]) -> Iterator[str]:
        last = 0
        while keys := self._scalars(_keys(which, last)):
            yield from self._scalars(select(tasks.c.isolate_hash).distinct().where(tasks.c.job_key.in_(keys)))
            last = keys[-1]

    def _scalars(self, query: Select[Any]) -> Sequence[Any]:
        return self._database.run(lambda connection: connection.execute(query).scalars().all())


def _keys(which: ColumnElement[bool], after: int) -> Select[Any]:
    return select(jobs.c.job_key).where(which, jobs.c.job_key > after).order_by(jobs.c.job_key).limit(_PAGE)
