"""Pages of a job's attempts, in any order."""

import itertools
from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from dist_test.model.task import AttemptKey
from dist_test.storage.attempt_lists import AttemptLists, AttemptSort, place_of
from dist_test.storage.database import Database
from dist_test.storage.jobs import AttemptFilter, AttemptRecord, Jobs

from .conftest import rows_read, store_large_job

JOB = 7
OUTCOMES = ("failed", "timed_out", "lost", "setup_failed", "canceled", "succeeded", None)
ALL = list(itertools.product(range(40), range(2)))


@pytest.fixture
def lists(database: Database) -> AttemptLists:
    """A job of 40 tasks with two attempts each: many equal durations, starts and outcomes, and many without any."""
    with database.engine.begin() as connection:
        for task, attempt in ALL:
            _insert(connection, task, attempt)
    return AttemptLists(database)


def _insert(connection: Connection, task: int, attempt: int) -> None:
    number = task * 2 + attempt
    outcome = OUTCOMES[number % 7]
    values = {
        "job": JOB,
        "task": task,
        "attempt": attempt,
        "outcome": outcome,
        "seconds": None if outcome is None else (number % 5) / 3,
        "begin": None if number % 6 == 0 else number % 4,
        "slave": f"slave-{number % 3}",
        "before": attempt,
        "name": f"test {task}% \\_{task % 3}",
    }
    if attempt == 0:
        connection.execute(
            text(
                "INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries)"
                " VALUES (:job, :task, 'aa', :name, 0, 1)"
            ),
            values,
        )
    connection.execute(
        text(
            "INSERT INTO attempts (job_key, task_index, attempt, outcome, duration_seconds, slave_id, prior_failures,"
            " queued_at, started_at, finished_at) VALUES (:job, :task, :attempt, :outcome, :seconds, :slave, :before,"
            " '2026-01-01', '2026-01-01' + INTERVAL :begin SECOND, IF(:outcome IS NULL, NULL, '2026-01-02'))"
        ),
        values,
    )


def keys(found: list[AttemptRecord]) -> list[tuple[int, int]]:
    return [(attempt.key.task, attempt.key.attempt) for attempt in found]


def pages(
    lists: AttemptLists, sort: AttemptSort, size: int, only: AttemptFilter | None = None
) -> Iterator[AttemptRecord]:
    after = None
    while found := lists.page(JOB, sort=sort, only=only, after=after, limit=size):
        assert 0 < len(found) <= size
        assert after != place_of(found[-1], sort), "the page after a place has the place itself"
        yield from found
        after = place_of(found[-1], sort)


@pytest.mark.parametrize("size", [1, 7, 80])
@pytest.mark.parametrize("sort", AttemptSort)
def test_pages_have_every_attempt_once_and_in_order(lists: AttemptLists, sort: AttemptSort, size: int) -> None:
    whole = lists.page(JOB, sort=sort, limit=1000)

    assert sorted(keys(whole)) == ALL
    assert keys(list(pages(lists, sort, size))) == keys(whole)


def test_orders_are_what_they_are_called(lists: AttemptLists) -> None:
    def column(sort: AttemptSort, name: str) -> list[object]:
        return [getattr(attempt, name) for attempt in lists.page(JOB, sort=sort, limit=1000)]

    for sort, name, is_reversed in (
        (AttemptSort.LONGEST, "duration_seconds", True),
        (AttemptSort.SHORTEST, "duration_seconds", False),
        (AttemptSort.NEWEST, "started_at", True),
        (AttemptSort.OLDEST, "started_at", False),
    ):
        values = column(sort, name)
        there = [value for value in values if value is not None]
        assert there == sorted(there, reverse=is_reversed)  # type: ignore[type-var]
        assert values[len(there) :] == [None] * (len(values) - len(there))
    runs = [outcome for outcome, _ in itertools.groupby(column(AttemptSort.OUTCOME, "outcome"))]
    assert runs == ["failed", "timed_out", "lost", "setup_failed", "canceled", None, "succeeded"]


@pytest.mark.parametrize("only", AttemptFilter)
def test_filters_and_pages_go_together(lists: AttemptLists, only: AttemptFilter) -> None:
    whole = lists.page(JOB, sort=AttemptSort.LONGEST, only=only, limit=1000)

    assert keys(list(pages(lists, AttemptSort.LONGEST, 3, only))) == keys(whole)


def test_flaky_ones_are_all_attempts_of_tasks_that_succeeded_after_a_failure(lists: AttemptLists) -> None:
    found = lists.page(JOB, only=AttemptFilter.FLAKY, limit=1000)

    tasks = {task for task, _ in ALL if OUTCOMES[(task * 2 + 1) % 7] == "succeeded"}
    assert keys(found) == [key for key in ALL if key[0] in tasks]


def test_a_search_takes_its_text_to_the_letter(lists: AttemptLists) -> None:
    assert {key[0] for key in keys(lists.page(JOB, search="test 7%", limit=1000))} == {7}
    assert {key[0] % 3 for key in keys(lists.page(JOB, search="\\_2", limit=1000))} == {2}
    assert lists.page(JOB, search="test _", limit=1000) == []
    assert {attempt.slave_id for attempt in lists.page(JOB, search="slave-1", limit=1000)} == {"slave-1"}


def test_a_task_has_its_attempts_in_order(lists: AttemptLists) -> None:
    assert keys(lists.of_task(JOB, 3)) == [(3, 0), (3, 1)]
    assert lists.of_task(JOB, 99) == []
    assert lists.task(JOB, 99) is None
    task = lists.task(JOB, 3)
    assert task is not None
    assert task.description == "test 3% \\_0"
    assert set(lists.tasks(JOB, {3, 5, 99})) == {3, 5}
    assert lists.tasks(JOB, set()) == {}


def test_tasks_without_success_are_found(lists: AttemptLists) -> None:
    succeeded = {task for task, attempt in ALL if OUTCOMES[(task * 2 + attempt) % 7] == "succeeded"}

    found = [task.description for task in lists.unsuccessful_tasks(JOB)]

    assert found == [f"test {task}% \\_{task % 3}" for task in range(40) if task not in succeeded]


@pytest.mark.parametrize("place", [0, 50_000, 99_000])
def test_a_page_of_a_large_job_reads_little_more_than_the_page(database: Database, place: int) -> None:
    store_large_job(database, JOB, 100_000)
    before = rows_read(database)
    page = Jobs(database).attempts(JOB, after=AttemptKey(JOB, place, 0), limit=500)
    assert [attempt.key.task for attempt in page] == list(range(place + 1, place + 501))
    assert rows_read(database) - before < 10 * 500
