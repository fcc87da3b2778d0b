"""The first page of a cluster of 200 slaves with 16 slots each, after 20,000 jobs."""

import re
import time

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from dist_test.storage.database import Database
from dist_test.storage.jobs import Jobs

from .conftest import MakeApp

JOBS, SLAVES, SLOTS = 20_000, 200, 16
ROWS = (
    f"""
    INSERT INTO slaves (slave_id, slots, busy, state, want, message, started_at, heartbeat, version)
    SELECT CONCAT('slave-', seq), {SLOTS}, {SLOTS}, 'up', 'run', '', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), '1.0'
    FROM seq_0_to_{SLAVES - 1}
    """,  # noqa: S608  # ours
    f"""
    INSERT INTO jobs (job_key, job_id, name, project, owner, fingerprint, state, period, first_tag, weight,
                      submitted_at, finished_at, total_tasks, finished_tasks, failed_tasks, total_attempts)
    SELECT seq, CONCAT('nightly.', seq), 'nightly', CONCAT('project-', seq MOD 7), CONCAT('owner-', seq MOD 50),
           REPEAT('0', 64), IF(seq > {JOBS} - 10, 'running', 'finished'), 1, 0, 1,
           UTC_TIMESTAMP(6) - INTERVAL {JOBS} - seq MINUTE,
           IF(seq > {JOBS} - 10, NULL, UTC_TIMESTAMP(6) - INTERVAL {JOBS} - seq MINUTE), 1000, 500, seq MOD 9 = 0, 1000
    FROM seq_1_to_{JOBS}
    """,  # noqa: S608  # ours
    f"""
    INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries, expected_seconds)
    SELECT {JOBS} - seq MOD 10, seq DIV 10, REPEAT('a', 40), CONCAT('org.example.module.Test', seq), 900, 1, 30
    FROM seq_0_to_{10 * SLAVES * SLOTS - 1}
    """,  # noqa: S608  # ours
    f"""
    INSERT INTO attempts (job_key, task_index, attempt, has_started, slave_id, claim, charge_seconds, queued_at,
                          started_at, lease_until)
    SELECT {JOBS} - seq MOD 10, seq DIV 10, 0, seq < {SLAVES * SLOTS}, CONCAT('slave-', seq MOD {SLAVES}), 1, 30,
           UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) - INTERVAL seq SECOND,
           IF(seq < {SLAVES * SLOTS}, UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, NULL)
    FROM seq_0_to_{10 * SLAVES * SLOTS - 1}
    """,  # noqa: S608  # ours
)


@pytest.fixture
def big_cluster(database: Database) -> None:
    """Each job of the last ten has a tenth of what runs and waits."""
    with database.engine.begin() as connection:
        for statement in ROWS:
            connection.execute(text(statement))
        connection.execute(text("ANALYZE TABLE jobs, tasks, attempts"))


def timed(client: FlaskClient, path: str) -> tuple[str, float]:
    """The page and its milliseconds."""
    began = time.perf_counter()
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.text, (time.perf_counter() - began) * 1000


@pytest.mark.usefixtures("big_cluster")
def test_the_page_of_a_big_cluster_stays_small_and_shows_the_longest_of_each_slave(make_app: MakeApp) -> None:
    client = make_app().test_client()
    client.get("/api/v1/stats")

    page, first_ms = timed(client, "/")
    again, again_ms = timed(client, "/")

    print(f"\n/: {len(page) / 1e3:.0f} kB, made in {first_ms:.0f} ms, given again in {again_ms:.1f} ms")
    assert len(page) < 400_000
    assert page.count('<details id="runs-slave-') == SLAVES
    assert page.count("<li><span") == SLAVES * 3
    assert page.count(f">{SLOTS - 3} more</a>") == SLAVES
    assert again == page, "it is kept for a moment"
    assert again_ms < first_ms / 2
    longest = re.search(r'id="runs-slave-199">.*?(Test\d+)\s', page, re.DOTALL)
    assert longest is not None
    assert longest[1] == f"Test{SLAVES * SLOTS - 1}"


@pytest.mark.usefixtures("big_cluster")
def test_all_that_a_slave_runs_is_on_a_page_of_its_own(client: FlaskClient) -> None:
    page, slave_ms = timed(client, "/slave?slave_id=slave-7")

    print(f"\n/slave: {slave_ms:.0f} ms")
    assert page.count("<li><span") == SLOTS


@pytest.mark.usefixtures("big_cluster")
@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("q=nightly.1234", ["nightly.12349", "nightly.12348"]),
        ("q=NO-SUCH", []),
        ("owner=owner-3&state=failed", ["nightly.19953", "nightly.19503"]),
        ("state=running&project=project-0", ["nightly.19999", "nightly.19992"]),
        ("before=3", ["nightly.2", "nightly.1"]),
        ("after=2&q=nightly.1", ["nightly.139", "nightly.138"]),
    ],
)
def test_searches_through_all_jobs_are_quick(client: FlaskClient, query: str, ids: list[str]) -> None:
    client.get("/")
    page, search_ms = timed(client, f"/?{query}")

    print(f"\n/?{query}: {search_ms:.0f} ms")
    found = re.findall(r'<th scope="row"><a href="[^"]*">([^<]*)</a>', page)
    assert found[:2] == ids
    assert search_ms < 1500, "of a machine that does other things too"


@pytest.mark.usefixtures("big_cluster")
def test_what_runs_is_read_without_what_waits(database: Database) -> None:
    began = time.perf_counter()
    running = Jobs(database).running_everywhere()
    running_ms = (time.perf_counter() - began) * 1000
    began = time.perf_counter()
    work = Jobs(database).expected_seconds_by_job()
    work_ms = (time.perf_counter() - began) * 1000

    print(f"\nwhat runs: {running_ms:.0f} ms, what is left: {work_ms:.0f} ms")
    assert len(running) == SLAVES * SLOTS
    assert set(work.values()) == {30.0 * SLAVES * SLOTS}
