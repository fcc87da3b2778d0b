"""What earlier jobs tell of a project's tests: their runs, how often they fail, how often that was chance.

Projects run a hundred thousand tests, and again each night. So nothing here reads a whole history: it looks at the
newest jobs of a window of time, and says which. A flake is a task that failed and then succeeded within its job.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, select, text

from dist_test.model.outcome import Outcome
from dist_test.storage.bulk import chunks
from dist_test.storage.database import Database
from dist_test.storage.durations import duration_key
from dist_test.storage.jobs import AttemptRecord
from dist_test.storage.schema import AnyRow, attempts, durations, jobs, tasks

MOST_JOBS = 100
MOST_RUNS = 1000  # of one test
MOST_SAMPLES = 30_000  # of all tests of a page
MOST_FAILURES = 20_000
MOST_FLAKY_TESTS = 200
LAST_FLAKES = 3
_FAILURES = tuple(outcome for outcome in Outcome if outcome.is_test_failure)
_MEASURED = tuple(outcome for outcome in Outcome if outcome.is_measured)


class ListSort(StrEnum):
    """The order of a list of tests."""

    NAME = "name"
    SLOWEST = "slowest"  # by the expected duration
    FAILURES = "failures"  # only those that failed in the window, most often first


class FlakySort(StrEnum):
    """The order of a list of flaky tests."""

    RATE = "rate"
    COST = "cost"


class ProjectRecord(NamedTuple):
    """A project that had jobs in a window. Its name may be empty: that of jobs that named none."""

    project: str
    jobs: int
    last_submitted_at: datetime


@dataclass(frozen=True, kw_only=True)
class Window:
    """The jobs of a project that a page looks at, newest first: their ids by key. is_cut: there are older ones."""

    project: str
    days: int
    jobs: Mapping[int, str]
    is_cut: bool


@dataclass(frozen=True, kw_only=True)
class Run:
    """One attempt of a test, in one of its jobs."""

    job_id: str
    attempt: AttemptRecord


class Failure(NamedTuple):
    """Where to find an attempt that failed."""

    job_id: str
    task: int
    attempt: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ListedTest:
    """A test of a project. Runs are those in the window that came to an end of the test's own, flakes among them.

    expected_seconds is None for a test that was never measured, last_failure where none failed in the window.
    """

    description: str
    expected_seconds: float | None
    seconds: Sequence[float]  # of the runs, sorted
    passes: int
    last_failure: Failure | None

    @property
    def runs(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True, kw_only=True)
class FlakyTest:
    """A test that failed and then succeeded. runs: its tasks in the window; wasted_seconds: what the failures ran."""

    description: str
    runs: int
    flakes: int
    wasted_seconds: float
    last: Sequence[Failure]  # newest first, at most LAST_FLAKES
    moments: Sequence[datetime]  # of all flakes

    @property
    def rate(self) -> float:
        return self.flakes / max(self.runs, self.flakes)


class _Flake(NamedTuple):
    """A failed attempt of a task that succeeded later."""

    description: str
    job_key: int
    failure: Failure
    seconds: float


class History:
    """Reads what has become of tests. Safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def projects(self, *, days: int) -> list[ProjectRecord]:
        """The projects that had jobs in the last days, the latest first."""
        last = func.max(jobs.c.submitted_at)
        query = select(jobs.c.project, func.count(), last).where(_is_within(days))
        return [ProjectRecord(*row) for row in self._all(query.group_by(jobs.c.project).order_by(last.desc()))]

    def window(self, project: str, *, days: int) -> Window:
        """The newest jobs of the project in the last days, at most MOST_JOBS."""
        query = select(jobs.c.job_key, jobs.c.job_id).where(jobs.c.project == project, _is_within(days))
        rows = self._all(query.order_by(jobs.c.job_key.desc()).limit(MOST_JOBS + 1))
        shown = {row.job_key: row.job_id for row in rows[:MOST_JOBS]}
        return Window(project=project, days=days, jobs=shown, is_cut=len(rows) > MOST_JOBS)

    def runs(self, project: str, description: str, *, days: int) -> list[Run]:
        """The newest attempts of a test in the last days that have started, at most MOST_RUNS; newest first."""
        query = (
            select(
                attempts,
                tasks.c.isolate_hash,
                tasks.c.description,
                (attempts.c.lease_until >= func.utc_timestamp(6)).label("is_leased"),
                jobs.c.job_id,
            )
            .select_from(tasks)
            .join(jobs, jobs.c.job_key == tasks.c.job_key)
            .join(attempts, _is_of_task)
            .where(tasks.c.description == description, jobs.c.project == project, _is_within(days))
            .where(attempts.c.started_at.is_not(None))
            .order_by(attempts.c.started_at.desc())
            .limit(MOST_RUNS)
        )
        return [Run(job_id=row.job_id, attempt=AttemptRecord.from_row(row)) for row in self._all(query)]

    def tests(self, window: Window, *, search: str, sort: ListSort, offset: int, limit: int) -> list[ListedTest]:
        """Some tests of the project. `search`: part of a description."""
        if sort is ListSort.FAILURES:
            names = self._failing(window, search, offset, limit)
            expected = self._expected(window.project, names)
        else:
            expected = self._known(window.project, search, sort, offset, limit)
        samples = self._samples(window, list(expected))
        return [_test(name, seconds, samples.get(name, []), window) for name, seconds in expected.items()]

    def flaky(self, window: Window, *, sort: FlakySort) -> list[FlakyTest]:
        """The flaky tests in the window: of the MOST_FLAKY_TESTS with the most flakes, or that cost most."""
        by_test = _grouped(self._flakes(window))
        worst = sorted(by_test, key=lambda name: _weight(by_test[name], sort), reverse=True)[:MOST_FLAKY_TESTS]
        counts = self._task_counts(window, worst)
        found = [_flaky_test(name, by_test[name], counts.get(name, 0)) for name in worst]
        if sort is FlakySort.COST:
            return found
        return sorted(found, key=lambda test: (test.rate, test.flakes), reverse=True)

    def expected(self, project: str, description: str) -> float | None:
        """The seconds that the next run of a test is expected to take; None for one that was never measured."""
        return self._expected(project, [description])[description]

    def _known(self, project: str, search: str, sort: ListSort, offset: int, limit: int) -> dict[str, float | None]:
        slowest = [durations.c.expected_seconds.desc()] if sort is ListSort.SLOWEST else []
        query = select(durations.c.description, durations.c.expected_seconds)
        query = query.where(durations.c.project == project, _contains(durations.c.description, search))
        rows = self._all(query.order_by(*slowest, durations.c.description).offset(offset).limit(limit))
        return {row.description: row.expected_seconds for row in rows}

    def _expected(self, project: str, names: Sequence[str]) -> dict[str, float | None]:
        keys = [duration_key(project, name) for name in names]
        query = select(durations.c.description, durations.c.expected_seconds).where(durations.c.duration_key.in_(keys))
        found = {row.description: row.expected_seconds for row in self._all(query)}
        return {name: found.get(name) for name in names}

    def _failing(self, window: Window, search: str, offset: int, limit: int) -> list[str]:
        # The newest jobs' failures, should there be too many: a night in which all failed would drown the rest.
        newest = (
            select(attempts.c.job_key, attempts.c.task_index)
            .where(attempts.c.job_key.in_(window.jobs), attempts.c.outcome.in_(_FAILURES))
            .order_by(attempts.c.job_key.desc())
            .limit(MOST_FAILURES)
            .subquery("newest")
        )
        is_task = and_(tasks.c.job_key == newest.c.job_key, tasks.c.task_index == newest.c.task_index)
        query = select(tasks.c.description).select_from(newest).join(tasks, is_task)
        query = query.where(_contains(tasks.c.description, search)).group_by(tasks.c.description)
        query = query.order_by(func.count().desc(), tasks.c.description).offset(offset).limit(limit)
        return [row.description for row in self._all(query)]

    def _samples(self, window: Window, names: Sequence[str]) -> dict[str, list[AnyRow]]:
        query = (
            select(
                tasks.c.description,
                attempts.c.job_key,
                attempts.c.task_index,
                attempts.c.attempt,
                attempts.c.outcome,
                attempts.c.duration_seconds,
                attempts.c.finished_at,
            )
            .select_from(tasks)
            .join(attempts, _is_of_task)
            .where(tasks.c.description.in_(names), tasks.c.job_key.in_(window.jobs))
            .where(attempts.c.outcome.in_(_MEASURED), attempts.c.duration_seconds.is_not(None))
            .limit(MOST_SAMPLES)
        )
        found: dict[str, list[AnyRow]] = {}
        for row in self._all(query) if names and window.jobs else ():
            found.setdefault(row.description, []).append(row)
        return found

    def _flakes(self, window: Window) -> list[_Flake]:
        failed = attempts.alias("failed")
        is_earlier = and_(
            failed.c.job_key == attempts.c.job_key,
            failed.c.task_index == attempts.c.task_index,
            failed.c.attempt < attempts.c.attempt,
            failed.c.outcome.in_(_FAILURES),
        )
        query = (
            select(
                tasks.c.description,
                attempts.c.job_key,
                attempts.c.task_index,
                failed.c.attempt,
                failed.c.finished_at,
                func.coalesce(failed.c.duration_seconds, 0.0),
            )
            .select_from(attempts)
            .join(failed, is_earlier)
            .join(tasks, _is_of_task)
            .where(attempts.c.job_key.in_(window.jobs), attempts.c.outcome == Outcome.SUCCEEDED)
            .where(attempts.c.prior_failures > 0)
            .limit(MOST_FAILURES)
        )
        rows = self._all(query) if window.jobs else ()
        return [
            _Flake(name, key, Failure(window.jobs[key], task, attempt, at), seconds)
            for name, key, task, attempt, at, seconds in rows
        ]

    def _task_counts(self, window: Window, names: Sequence[str]) -> dict[str, int]:
        counts: dict[str, int] = {}
        for chunk in chunks(names):
            query = select(tasks.c.description, func.count()).group_by(tasks.c.description)
            query = query.where(tasks.c.description.in_(chunk), tasks.c.job_key.in_(window.jobs))
            counts |= {row[0]: row[1] for row in self._all(query)}
        return counts

    def _all(self, query: Select[Any]) -> Sequence[AnyRow]:
        return self._database.run(lambda connection: connection.execute(query).all())


_is_of_task = and_(attempts.c.job_key == tasks.c.job_key, attempts.c.task_index == tasks.c.task_index)


def _is_within(days: int) -> ColumnElement[bool]:
    return jobs.c.submitted_at >= func.utc_timestamp(6) - text(f"INTERVAL {days:d} DAY")


def _contains(column: ColumnElement[str], search: str) -> ColumnElement[bool]:
    # The tables' collation is a binary one, and people do not type capitals.
    return func.lower(column).contains(search.lower(), autoescape=True)


def _test(name: str, expected_seconds: float | None, samples: Sequence[AnyRow], window: Window) -> ListedTest:
    failed = [row for row in samples if row.outcome != Outcome.SUCCEEDED]
    last = max(failed, key=lambda row: row.finished_at, default=None)
    return ListedTest(
        description=name,
        expected_seconds=expected_seconds,
        seconds=sorted(row.duration_seconds for row in samples),
        passes=len(samples) - len(failed),
        last_failure=None if last is None else _failure(last, window),
    )


def _failure(row: AnyRow, window: Window) -> Failure:
    return Failure(window.jobs[row.job_key], row.task_index, row.attempt, row.finished_at)


def _grouped(flakes: Iterable[_Flake]) -> dict[str, list[_Flake]]:
    found: dict[str, list[_Flake]] = {}
    for flake in flakes:
        found.setdefault(flake.description, []).append(flake)
    return found


def _weight(flakes: Sequence[_Flake], sort: FlakySort) -> tuple[float, float]:
    cost = sum(flake.seconds for flake in flakes)
    return (cost, 0) if sort is FlakySort.COST else (_task_count(flakes), cost)


def _task_count(flakes: Sequence[_Flake]) -> int:
    # A task that failed twice before it succeeded is one flake.
    return len({(flake.job_key, flake.failure.task) for flake in flakes})


def _flaky_test(name: str, flakes: Sequence[_Flake], runs: int) -> FlakyTest:
    failures = sorted((flake.failure for flake in flakes), key=lambda failure: failure.at, reverse=True)
    return FlakyTest(
        description=name,
        runs=runs,
        flakes=_task_count(flakes),
        wasted_seconds=sum(flake.seconds for flake in flakes),
        last=failures[:LAST_FLAKES],
        moments=[failure.at for failure in failures],
    )
