"""What earlier jobs tell of a project's tests."""

from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, text

from dist_test.storage import history
from dist_test.storage.database import Database
from dist_test.storage.durations import Durations, Observation
from dist_test.storage.history import Failure, FlakySort, History, ListedTest, ListSort

PROJECT = "hdfs"


@dataclass(frozen=True, kw_only=True)
class Past:
    """A job of days ago. tests: the outcomes and durations of each test's attempts, in order."""

    days: float
    tests: dict[str, list[tuple[str, float]]]
    project: str = PROJECT


def write(connection: Connection, key: int, past: Past) -> None:
    """Write a job as it stands in the database when it has ended."""
    connection.execute(
        text(
            "INSERT INTO jobs (job_key, job_id, name, project, owner, fingerprint, state, period, first_tag, weight,"
            " submitted_at, total_tasks, total_attempts) VALUES (:key, :id, '', :project, 'ann', REPEAT('0', 64),"
            " 'finished', 1, 0, 1, UTC_TIMESTAMP(6) - INTERVAL :seconds SECOND, 0, 0)"
        ),
        {"key": key, "id": f"job-{key}", "project": past.project, "seconds": past.days * 86_400},
    )
    for index, (name, attempts) in enumerate(past.tests.items()):
        connection.execute(
            text(
                "INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries)"
                " VALUES (:key, :index, 'aa', :name, 0, 2)"
            ),
            {"key": key, "index": index, "name": name},
        )
        for attempt, (outcome, seconds) in enumerate(attempts):
            _write_attempt(connection, key, index, attempt, outcome, seconds)


def _write_attempt(connection: Connection, key: int, index: int, attempt: int, outcome: str, seconds: float) -> None:
    connection.execute(
        text(
            "INSERT INTO attempts (job_key, task_index, attempt, prior_failures, queued_at, slave_id, started_at,"
            " finished_at, outcome, duration_seconds) SELECT :key, :index, :attempt, :attempt, submitted_at, 's1',"
            " submitted_at + INTERVAL :attempt HOUR, submitted_at + INTERVAL :attempt HOUR + INTERVAL 1 MINUTE,"
            " :outcome, :seconds FROM jobs WHERE job_key = :key"
        ),
        {"key": key, "index": index, "attempt": attempt, "outcome": outcome, "seconds": seconds},
    )


OK, FLAKE = [("succeeded", 2.0)], [("failed", 5.0), ("timed_out", 7.0), ("succeeded", 2.0)]
JOBS = (
    Past(days=40, tests={"old": FLAKE}),
    Past(days=9, tests={"steady": OK, "shaky": FLAKE, "broken": [("failed", 1.0)], "slow": [("succeeded", 60.0)]}),
    Past(days=5, tests={"steady": OK, "shaky": OK, "broken": [("failed", 1.0)], "gone": [("canceled", 3.0)]}),
    Past(days=1, tests={"steady": [("succeeded", 4.0)], "shaky": [("failed", 3.0), ("succeeded", 2.0)]}),
    Past(days=1, tests={"steady": FLAKE}, project="kudu"),
)


@pytest.fixture
def past(database: Database) -> History:
    """Some jobs of two projects; what their slaves have learnt of the tests' durations."""
    with database.engine.begin() as connection:
        for key, job in enumerate(JOBS, 1):
            write(connection, key, job)
    names = ("steady", "shaky", "broken", "slow", "old")
    Durations(database).observe(
        [Observation(project=PROJECT, description=name, seconds=len(name)) for name in names]
        + [Observation(project="kudu", description="steady", seconds=9.0)]
    )
    return History(database)


def listed(
    past: History, *, sort: ListSort = ListSort.NAME, search: str = "", days: int = 30, offset: int = 0, limit: int = 9
) -> list[ListedTest]:
    """A page of the project's tests."""
    window = past.window(PROJECT, days=days)
    return past.tests(window, search=search, sort=sort, offset=offset, limit=limit)


def test_projects_come_with_the_number_of_their_jobs(past: History) -> None:
    found = past.projects(days=30)

    assert {(project.project, project.jobs) for project in found} == {("hdfs", 3), ("kudu", 1)}
    assert past.projects(days=1000)[-1].jobs in (4, 1)
    assert [found.jobs for found in past.projects(days=100) if found.project == PROJECT] == [4]


def test_a_window_has_the_newest_jobs_and_says_when_there_are_older_ones(
    past: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(past.window(PROJECT, days=30).jobs.values()) == ["job-4", "job-3", "job-2"]
    assert not past.window(PROJECT, days=30).is_cut

    monkeypatch.setattr(history, "MOST_JOBS", 2)

    assert list(past.window(PROJECT, days=30).jobs.values()) == ["job-4", "job-3"]
    assert past.window(PROJECT, days=30).is_cut


def test_a_test_is_listed_with_its_runs_in_the_window(past: History) -> None:
    tests = {test.description: test for test in listed(past)}

    assert (tests["steady"].seconds, tests["steady"].passes) == ([2.0, 2.0, 4.0], 3)
    assert tests["steady"].last_failure is None
    assert (tests["shaky"].runs, tests["shaky"].passes) == (6, 3)
    assert tests["shaky"].last_failure is not None
    assert tests["shaky"].last_failure[:3] == ("job-4", 1, 0)
    assert (tests["old"].runs, tests["old"].expected_seconds) == (0, 3.0)


def test_what_says_nothing_of_a_test_is_no_run(past: History) -> None:
    assert [test.runs for test in listed(past, search="gone")] == []
    assert all(run.attempt.outcome != "canceled" for run in past.runs(PROJECT, "steady", days=30))


@pytest.mark.parametrize(
    ("sort", "search", "names"),
    [
        (ListSort.NAME, "", ["broken", "old", "shaky", "slow", "steady"]),
        (ListSort.SLOWEST, "", ["broken", "steady", "shaky", "slow", "old"]),
        (ListSort.NAME, "OK", ["broken"]),
        (ListSort.NAME, "o", ["broken", "old", "slow"]),
        (ListSort.NAME, "%", []),
        (ListSort.FAILURES, "", ["shaky", "broken"]),
        (ListSort.FAILURES, "bro", ["broken"]),
    ],
)
def test_tests_are_ordered_and_searched(past: History, sort: ListSort, search: str, names: list[str]) -> None:
    assert [test.description for test in listed(past, sort=sort, search=search)] == names


@pytest.mark.parametrize("sort", list(ListSort))
def test_pages_of_tests_add_up_to_the_whole(past: History, sort: ListSort) -> None:
    pages = [listed(past, sort=sort, offset=offset, limit=2) for offset in range(0, 6, 2)]

    assert [test.description for page in pages for test in page] == [
        test.description for test in listed(past, sort=sort)
    ]


def test_the_runs_of_a_test_are_its_own_and_newest_first(past: History) -> None:
    runs = past.runs(PROJECT, "shaky", days=30)

    assert [(run.job_id, run.attempt.key.attempt) for run in runs] == [
        ("job-4", 1),
        ("job-4", 0),
        ("job-3", 0),
        ("job-2", 2),
        ("job-2", 1),
        ("job-2", 0),
    ]
    assert [run.attempt.is_flaky for run in runs] == [True, False, False, True, False, False]
    assert {run.job_id for run in past.runs("kudu", "steady", days=30)} == {"job-5"}
    assert past.runs(PROJECT, "old", days=30) == []
    assert past.runs(PROJECT, "nobody", days=30) == []


def test_only_what_has_failed_and_then_succeeded_is_flaky(past: History) -> None:
    (test,) = past.flaky(past.window(PROJECT, days=30), sort=FlakySort.RATE)

    assert (test.description, test.flakes, test.runs) == ("shaky", 2, 3)
    assert test.rate == pytest.approx(2 / 3)
    assert test.wasted_seconds == pytest.approx(15.0)
    assert [failure[:3] for failure in test.last] == [("job-4", 1, 0), ("job-2", 1, 1), ("job-2", 1, 0)]
    assert len(test.moments) == 3


def test_flaky_tests_are_ordered_by_rate_or_by_cost(past: History, database: Database) -> None:
    cheap = {"shaky": [("failed", 0.1), ("succeeded", 1.0)], "rare": [("failed", 99.0), ("succeeded", 1.0)]}
    with database.engine.begin() as connection:
        write(connection, 9, Past(days=0.5, tests=cheap))
        for key in (10, 11):
            write(connection, key, Past(days=0.4, tests={"rare": OK}))
    window = past.window(PROJECT, days=30)

    assert [test.description for test in past.flaky(window, sort=FlakySort.RATE)] == ["shaky", "rare"]
    assert [test.description for test in past.flaky(window, sort=FlakySort.COST)] == ["rare", "shaky"]


def test_a_project_without_jobs_has_nothing(past: History) -> None:
    window = past.window("nobody's", days=30)

    assert past.flaky(window, sort=FlakySort.COST) == []
    assert [past.tests(window, search="", sort=sort, offset=0, limit=9) for sort in ListSort] == [[], [], []]
    assert past.expected("nobody's", "steady") is None


def test_a_failure_says_where_it_is(past: History) -> None:
    (broken,) = listed(past, search="broken")

    assert isinstance(broken.last_failure, Failure)
    assert broken.last_failure.job_id == "job-3"
