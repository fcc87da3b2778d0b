"""Pages of all jobs that there ever were, searched and filtered, newest first."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, func, or_, select

from dist_test.storage.database import Database
from dist_test.storage.jobs import JOB_COLUMNS, UNFINISHED_STATES, JobRecord
from dist_test.storage.schema import jobs


class JobFilter(StrEnum):
    """Which jobs to list."""

    RUNNING = "running"  # also those that are still being submitted
    FINISHED = "finished"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    FLAKY = "flaky"  # with tasks that succeeded after a failure


@dataclass(frozen=True, kw_only=True)
class JobSearch:
    """What to look for: all that is given has to fit. Upper and lower case are the same.

    text: somewhere in the id, the name, the owner or the project. job: somewhere in the id or the name. owner, project:
    the whole of it. Empty or None stands for any.
    """

    text: str = ""
    job: str = ""
    owner: str = ""
    project: str = ""
    only: JobFilter | None = None


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """Jobs, newest first, and whether there are newer and older ones of the kind that was looked for."""

    jobs: tuple[JobRecord, ...]
    has_newer: bool
    has_older: bool


class JobLists:
    """Reads lists of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, search: JobSearch, *, limit: int, before: int | None = None, after: int | None = None) -> JobPage:
        """The newest that fit; the newest older than the job with the key `before`; or the oldest newer than `after`.

        A search for a part of a name reads jobs by their key until the page is full: all of them, when few fit.
        """
        if after is not None:
            found = self._read(search, jobs.c.job_key > after, jobs.c.job_key.asc(), limit + 1)
            shown = tuple(reversed(found[:limit]))
            return JobPage(jobs=shown, has_newer=len(found) > limit, has_older=True)
        older = jobs.c.job_key < before if before is not None else None
        found = self._read(search, older, jobs.c.job_key.desc(), limit + 1)
        return JobPage(jobs=tuple(found[:limit]), has_newer=before is not None, has_older=len(found) > limit)

    def _read(
        self, search: JobSearch, place: ColumnElement[bool] | None, order: ColumnElement[int], limit: int
    ) -> list[JobRecord]:
        query = select(*JOB_COLUMNS).where(*_conditions(search)).order_by(order).limit(limit)
        if place is not None:
            query = query.where(place)
        rows = self._database.run(lambda connection: connection.execute(query).all())
        return [JobRecord.from_row(row) for row in rows]


def _conditions(search: JobSearch) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if search.text:
        found.append(_contained(search.text, jobs.c.job_id, jobs.c.name, jobs.c.owner, jobs.c.project))
    if search.job:
        found.append(_contained(search.job, jobs.c.job_id, jobs.c.name))
    if search.owner:
        found.append(func.lower(jobs.c.owner) == search.owner.lower())
    if search.project:
        found.append(func.lower(jobs.c.project) == search.project.lower())
    if search.only is not None:
        found.append(_FILTERS[search.only])
    return found


def _contained(text: str, *columns: ColumnElement[str]) -> ColumnElement[bool]:
    # The tables compare byte by byte.
    return or_(*(func.lower(column).contains(text.lower(), autoescape=True) for column in columns))


_IS_FINISHED = jobs.c.state == "finished"
# As JobRecord.result has it.
_IS_CANCELED = and_(jobs.c.cancel_reason.is_not(None), jobs.c.canceled_tasks > 0)
_FILTERS: dict[JobFilter, ColumnElement[bool]] = {
    JobFilter.RUNNING: jobs.c.state.in_(UNFINISHED_STATES),
    JobFilter.FINISHED: _IS_FINISHED,
    JobFilter.SUCCEEDED: and_(_IS_FINISHED, jobs.c.failed_tasks == 0),
    JobFilter.FAILED: and_(_IS_FINISHED, jobs.c.failed_tasks > 0, ~_IS_CANCELED),
    JobFilter.CANCELED: and_(_IS_FINISHED, _IS_CANCELED),
    JobFilter.FLAKY: jobs.c.flaky_tasks > 0,
}
