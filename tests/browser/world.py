"""What the browser's master shows: a month of a project's jobs, one that just failed, one of 100,000 tasks that runs.

Rows are written straight into the tables, since nobody has a month. Everything is counted from `now`, and made by
formulas from the number of a job or task: two runs differ in nothing but the time.
"""

import io
import zipfile
from typing import Any

from sqlalchemy import Connection, text

from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT, result_key
from dist_test.model.summary import COUNTER_NAMES
from dist_test.storage.database import Database
from dist_test.storage.results import Bucket

BIG, FAILED, CANCELED, EVIL = "big", "ann.nightly.failed", "ben.canceled", "eve.markup"
BIG_TASKS = 100_000
BIG_SLOTS = 64  # on 8 slaves
BIG_SECONDS = 4  # of each task
BIG_FINISHED = 95_000
HISTORY_JOBS = 140  # of the project, six hours apart
HISTORY_TESTS = 12
PROJECT = "hdfs"
FLAKY_TEST = "org.example.hdfs.TestLeaseRecovery"
FAILING_TEST = "org.example.hdfs.TestAppend"
RUNNING_TEST = "org.example.module0.Test95000"
HASH = "c0ffee" * 6 + "beef"
MARKUP = '"><script>alert(1)</script>'

STDERR_LINES = 20_000
FAILURE_LINE = "AssertionError: lease was not recovered within 60 s"


def fill(database: Database, bucket: Bucket) -> None:
    """Write it all, into a database with the schema and no rows."""
    with database.engine.begin() as connection:
        _slaves(connection)
        for number in range(HISTORY_JOBS):
            _past_job(connection, number)
        _failed_job(connection)
        _canceled_job(connection)
        _job_of_markup(connection)
        _big_job(connection)
        connection.execute(text(_DURATIONS))
    _store(bucket)


def test_of(number: int) -> str:
    """The name of a test of the project."""
    return [FAILING_TEST, FLAKY_TEST, *(f"org.example.hdfs.TestBlock{n}" for n in range(HISTORY_TESTS - 2))][number]


def _slaves(connection: Connection) -> None:
    rows = [
        *((f"slave-{n}", "up", "run", 8, "", 2) for n in range(8)),
        ("slave-idle", "up", "run", 0, "", 3),
        ("slave-draining", "draining", "drain", 1, "", 1),
        ("slave-sick", "quarantined", "run", 0, "5 tasks in a row could not be set up: no space left on device", 2),
        ("slave-gone", "up", "run", 3, "", 7200),
    ]
    for name, state, want, busy, message, silent in rows:
        connection.execute(
            text(
                "INSERT INTO slaves (slave_id, slots, busy, state, want, message, started_at, heartbeat, version,"
                " idle_since) VALUES (:name, 8, :busy, :state, :want, :message, UTC_TIMESTAMP(6) - INTERVAL 1 DAY,"
                # A minute ahead, for the tests' sake: nobody beats here, and these slaves stay alive for an hour.
                " UTC_TIMESTAMP(6) + INTERVAL (3600 * (:silent < 60) - :silent) SECOND, '0.1.0',"
                " IF(:busy = 0, UTC_TIMESTAMP(6) - INTERVAL 10 MINUTE, NULL))"
            ),
            {"name": name, "state": state, "want": want, "busy": busy, "message": message, "silent": silent},
        )


def add_job(connection: Connection, job_id: str, *, hours_ago: float, seconds: float | None, **fields: Any) -> int:
    """A job row; `seconds` from submit to end, None while it runs. Fields beyond it are columns. Gives its key."""
    values: dict[str, Any] = {
        "job_id": job_id,
        "name": job_id.split(".")[0],
        "project": PROJECT,
        "owner": "ann",
        "fingerprint": "0" * 64,
        "state": "running" if seconds is None else "finished",
        "period": 1,
        "first_tag": 0,
        "weight": 1,
        **dict.fromkeys(COUNTER_NAMES, 0),
        **fields,
    }
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    times = {"_hours": hours_ago * 3600, "_seconds": seconds}
    result = connection.execute(
        text(
            f"INSERT INTO jobs ({names}, submitted_at, enqueued_at, finished_at) VALUES ({marks},"  # noqa: S608  # ours
            " UTC_TIMESTAMP(6) - INTERVAL :_hours SECOND, UTC_TIMESTAMP(6) - INTERVAL :_hours SECOND,"
            " UTC_TIMESTAMP(6) - INTERVAL (:_hours - :_seconds) SECOND)"
        ),
        values | times,
    )
    return int(result.lastrowid)


def add_task(connection: Connection, job_key: int, index: int, description: str, *, max_retries: int = 0) -> None:
    """A task of a job that is there."""
    connection.execute(
        text(
            "INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries,"
            " expected_seconds) VALUES (:job, :index, :hash, :description, 900, :retries, 30)"
        ),
        {"job": job_key, "index": index, "hash": HASH, "description": description, "retries": max_retries},
    )


def add_attempt(connection: Connection, job_key: int, index: int, attempt: int, **fields: Any) -> None:
    """A finished attempt: `began` and `seconds` count from the job's submit; fields beyond it are columns."""
    values = {"outcome": "succeeded", "exit_status": 0, "slave_id": f"slave-{index % 8}", "claim": 1, **fields}
    began, seconds = values.pop("began"), values.pop("seconds")
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(
        text(
            f"INSERT INTO attempts (job_key, task_index, attempt, has_started, duration_seconds, {names}, queued_at,"  # noqa: S608  # ours
            f" started_at, finished_at) SELECT :_job, :_index, :_attempt, 1, :_seconds, {marks},"
            " submitted_at + INTERVAL IF(:_attempt, :_began - 1, 0) SECOND, submitted_at + INTERVAL :_began SECOND,"
            " submitted_at + INTERVAL :_began + :_seconds SECOND FROM jobs WHERE job_key = :_job"
        ),
        {"_job": job_key, "_index": index, "_attempt": attempt, "_began": began, "_seconds": seconds, **values},
    )


def add_running_attempt(connection: Connection, job_key: int, index: int) -> None:
    """The first attempt of a task, under a lease that lasts for an hour."""
    connection.execute(
        text(
            f"INSERT INTO attempts ({_COLUMNS}, started_at, lease_until) VALUES (:job, :index, 0, 1, 'slave-0', 1, 30,"  # noqa: S608  # ours
            " UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 1 HOUR)"
        ),
        {"job": job_key, "index": index},
    )


def _past_job(connection: Connection, number: int) -> None:
    """One of the project's nightly jobs; every fifth has a flake, every ninth a failure."""
    is_flaky, is_failed = number % 5 == 0, number % 9 == 0
    key = add_job(
        connection,
        f"ann.nightly.{number:03}",
        hours_ago=6.0 * (HISTORY_JOBS - number),
        seconds=120.0,
        owner=("ann", "ben", "cat")[number % 3],
        total_tasks=HISTORY_TESTS,
        finished_tasks=HISTORY_TESTS,
        succeeded_tasks=HISTORY_TESTS - is_failed,
        failed_tasks=int(is_failed),
        flaky_tasks=int(is_flaky),
        total_attempts=HISTORY_TESTS + is_flaky,
        finished_attempts=HISTORY_TESTS + is_flaky,
        succeeded_attempts=HISTORY_TESTS - is_failed,
        retried_attempts=int(is_flaky),
        flaky_attempts=int(is_flaky),
    )
    for index in range(HISTORY_TESTS):
        fails_first = is_flaky and test_of(index) == FLAKY_TEST
        seconds = 20.0 + index * 3 + number % 7 + (15 if number > 100 and index == 4 else 0)
        add_task(connection, key, index, test_of(index), max_retries=2)
        if fails_first:
            add_attempt(connection, key, index, 0, began=1.0, seconds=61.0, outcome="failed", exit_status=1)
        outcome = "failed" if is_failed and test_of(index) == FAILING_TEST else "succeeded"
        began = 70.0 if fails_first else 1.0 + index % 4
        add_attempt(
            connection,
            key,
            index,
            int(fails_first),
            began=began,
            seconds=seconds,
            outcome=outcome,
            exit_status=int(outcome == "failed"),
            prior_failures=int(fails_first),
        )


def _failed_job(connection: Connection) -> None:
    """Three attempts of one task, with logs and artifacts; a flake; a time out; a task that could not be set up."""
    key = add_job(
        connection,
        FAILED,
        hours_ago=1.0,
        seconds=300.0,
        max_failed_tasks=100,
        total_tasks=5,
        finished_tasks=5,
        succeeded_tasks=2,
        failed_tasks=3,
        flaky_tasks=1,
        total_attempts=8,
        finished_attempts=8,
        succeeded_attempts=2,
        timed_out_attempts=1,
        retried_attempts=3,
        flaky_attempts=1,
    )
    names = (FAILING_TEST, FLAKY_TEST, "org.example.hdfs.TestBalancer", "org.example.hdfs.TestFsck", "TestOK")
    for index, name in enumerate(names):
        add_task(connection, key, index, name, max_retries=2)
    sizes = {"stdout_bytes": len(_stdout()), "stderr_bytes": len(_stderr()), "artifact_bytes": len(_artifacts())}
    for attempt in range(3):
        add_attempt(
            connection,
            key,
            0,
            attempt,
            began=5.0 + 80 * attempt,
            seconds=61.5,
            outcome="failed",
            exit_status=1,
            prior_failures=attempt,
            slave_id=f"slave-{attempt}",
            **sizes,
        )
    add_attempt(connection, key, 1, 0, began=5.0, seconds=40.0, outcome="failed", exit_status=-11, stderr_bytes=0)
    add_attempt(connection, key, 1, 1, began=60.0, seconds=42.0, prior_failures=1)
    add_attempt(connection, key, 2, 0, began=6.0, seconds=290.0, outcome="timed_out", exit_status=-9, logs_lost=1)
    add_attempt(
        connection,
        key,
        3,
        0,
        began=7.0,
        seconds=0.0,
        outcome="setup_failed",
        exit_status=None,
        message="blob c0ffee was not found on the isolate server",
    )
    add_attempt(connection, key, 4, 0, began=8.0, seconds=0.42)


def _canceled_job(connection: Connection) -> None:
    key = add_job(
        connection,
        CANCELED,
        hours_ago=2.0,
        seconds=10.0,
        owner="ben",
        project="kudu",
        cancel_reason="canceled by ben: wrong branch",
        total_tasks=2,
        finished_tasks=2,
        succeeded_tasks=1,
        failed_tasks=1,
        canceled_tasks=1,
        total_attempts=2,
        finished_attempts=2,
        succeeded_attempts=1,
    )
    add_task(connection, key, 0, "tablet-test.0")
    add_task(connection, key, 1, "tablet-test.1")
    add_attempt(connection, key, 0, 0, began=1.0, seconds=3.0)
    add_attempt(connection, key, 1, 0, began=1.0, seconds=9.0, outcome="canceled", exit_status=None)


def _job_of_markup(connection: Connection) -> None:
    """Everything that a user may name has markup in it."""
    names = {"name": MARKUP, "project": MARKUP, "owner": MARKUP, "cancel_reason": MARKUP}
    counts = {"total_tasks": 1, "finished_tasks": 1, "failed_tasks": 1, "canceled_tasks": 1, "total_attempts": 1}
    key = add_job(connection, EVIL, hours_ago=3.0, seconds=5.0, **names, **counts, finished_attempts=1)
    add_task(connection, key, 0, MARKUP)
    add_attempt(connection, key, 0, 0, began=1.0, seconds=3.0, outcome="failed", exit_status=1, message=MARKUP)


def _big_job(connection: Connection) -> None:
    """It runs: of 100,000 tasks 95,000 are finished, every 300th of them failed and every 200th was flaky."""
    finished = BIG_FINISHED
    failed = sum(n % 300 == 0 for n in range(finished))
    flaky = sum(n % 200 == 1 for n in range(finished))
    rounds = finished // BIG_SLOTS
    key = add_job(
        connection,
        BIG,
        hours_ago=(rounds * BIG_SECONDS + 60) / 3600,
        seconds=None,
        owner="cat",
        project="hadoop",
        total_tasks=BIG_TASKS,
        finished_tasks=finished,
        succeeded_tasks=finished - failed,
        failed_tasks=failed,
        flaky_tasks=flaky,
        total_attempts=BIG_TASKS + flaky,
        finished_attempts=finished + flaky,
        succeeded_attempts=finished - failed,
        retried_attempts=flaky,
        flaky_attempts=flaky,
    )
    values = {"job": key, "hash": HASH, "slots": BIG_SLOTS, "each": BIG_SECONDS, "finished": finished}
    for statement in (_BIG_TASKS, _BIG_FINISHED, _BIG_FLAKES, _BIG_UNFINISHED):
        connection.execute(text(statement), values)


_BIG_TASKS = f"""
    INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries, expected_seconds)
    SELECT :job, seq, :hash, CONCAT('org.example.module', seq MOD 40, '.Test', seq), 900, 1, :each
    FROM seq_0_to_{BIG_TASKS - 1}
"""  # noqa: S608  # ours
_COLUMNS = "job_key, task_index, attempt, has_started, slave_id, claim, charge_seconds, queued_at"
# Slot n of a slave works off every 64th task; a flake runs in the half of the task's time, and so does its retry.
_BIG_FINISHED = f"""
    INSERT INTO attempts ({_COLUMNS}, started_at, finished_at, outcome, exit_status, duration_seconds, prior_failures)
    SELECT :job, seq, seq MOD 200 = 1, 1, CONCAT('slave-', seq MOD 8), 1, :each, submitted_at,
           submitted_at + INTERVAL (seq DIV :slots + (seq MOD 200 = 1) * 0.5) * :each SECOND,
           submitted_at + INTERVAL (seq DIV :slots) * :each + :each - 0.1 SECOND,
           IF(seq MOD 300 = 0, 'failed', 'succeeded'), seq MOD 300 = 0, 1 + seq MOD 97 / 33, seq MOD 200 = 1
    FROM seq_0_to_{BIG_FINISHED - 1} JOIN jobs ON job_key = :job
"""  # noqa: S608  # ours
_BIG_FLAKES = f"""
    INSERT INTO attempts ({_COLUMNS}, started_at, finished_at, outcome, exit_status, duration_seconds)
    SELECT :job, seq, 0, 1, CONCAT('slave-', seq MOD 8), 1, :each, submitted_at,
           submitted_at + INTERVAL (seq DIV :slots) * :each SECOND,
           submitted_at + INTERVAL (seq DIV :slots + 0.45) * :each SECOND, 'failed', 1, 1.8
    FROM seq_0_to_{BIG_FINISHED - 1} JOIN jobs ON job_key = :job WHERE seq MOD 200 = 1
"""  # noqa: S608  # ours
_BIG_UNFINISHED = f"""
    INSERT INTO attempts ({_COLUMNS}, started_at, lease_until)
    SELECT :job, seq, 0, seq < :finished + :slots, IF(seq < :finished + :slots, CONCAT('slave-', seq MOD 8), NULL),
           seq < :finished + :slots, :each, submitted_at,
           IF(seq < :finished + :slots, UTC_TIMESTAMP(6) - INTERVAL seq MOD 20 SECOND, NULL),
           IF(seq < :finished + :slots, UTC_TIMESTAMP(6) + INTERVAL 1 HOUR, NULL)
    FROM seq_{BIG_FINISHED}_to_{BIG_TASKS - 1} JOIN jobs ON job_key = :job
"""  # noqa: S608  # ours

# What slaves have learnt of all that has run; the key is storage.durations.duration_key.
_DURATIONS = """
    INSERT INTO durations (duration_key, project, description, expected_seconds, runs)
    SELECT SHA2(CONCAT(project, CHAR(0), description), 256), project, description, AVG(duration_seconds), COUNT(*)
    FROM attempts JOIN tasks USING (job_key, task_index) JOIN jobs USING (job_key)
    WHERE outcome IN ('succeeded', 'failed', 'timed_out') GROUP BY project, description
"""


def _stdout() -> bytes:
    return b"".join(b"[INFO] block %d replicated\n" % number for number in range(2000))


def _stderr() -> bytes:
    """Long, with what went wrong in its last lines, some bytes that are no UTF-8, and colours of a terminal."""
    lines = [b"WARN lease %d expired <b>&amp;\n" % number for number in range(STDERR_LINES)]
    return b"".join(lines) + b"\xff\xfe \x1b[31mred\x1b[0m " + MARKUP.encode() + f"\n{FAILURE_LINE}\n".encode()


def _artifacts() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("build/debug/test-logs/TestAppend.xml", "<testsuite/>\n")
        archive.writestr("build/debug/test-logs/core.txt", "core\n" * 50_000)
        archive.writestr(f"odd/{MARKUP}.txt", "odd\n")
    return content.getvalue()


def _store(bucket: Bucket) -> None:
    for attempt in range(3):
        for name, content in ((STDOUT, _stdout()), (STDERR, _stderr()), (ARTIFACTS, _artifacts())):
            key = result_key(FAILED, f"{HASH}.0", attempt, 1, name)
            bucket.upload(key, io.BytesIO(content), len(content))
    bucket.upload(result_key(FAILED, f"{HASH}.1", 0, 1, STDERR), io.BytesIO(b""), 0)
