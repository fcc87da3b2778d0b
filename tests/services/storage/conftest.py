"""A submitted job, and slaves that claim from it, straight on the storage package."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from dist_test.master.service import Service
from dist_test.model.job import Job
from dist_test.model.outcome import Outcome
from dist_test.model.task import AttemptKey, QueueEntry, Task
from dist_test.settings import BeanstalkSettings, MasterSettings, load_master_settings
from dist_test.storage.claims import Claim, Claims, Refusal
from dist_test.storage.database import Database
from dist_test.storage.finishes import Finishes, Recorded, Result
from dist_test.storage.queue import Queue, Queues

LEASE = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Hand:
    """A slave that does by hand what a real one does in a loop."""

    slave_id: str
    claims: Claims
    finishes: Finishes
    tasks: dict[AttemptKey, Task] = field(default_factory=dict)

    def claim(self, entry: QueueEntry) -> Claim:
        """Claim an entry that is free."""
        claim = self.try_to_claim(entry)
        assert isinstance(claim, Claim), claim
        return claim

    def try_to_claim(self, entry: QueueEntry) -> Claim | Refusal:
        """Claim an entry, free or not."""
        self.tasks[entry.key] = entry.task
        return self.claims.claim(entry)

    def finish(self, claim: Claim, outcome: Outcome = Outcome.SUCCEEDED, **fields: object) -> Recorded:
        """Record an end."""
        result = Result(claim=claim, outcome=outcome, task=self.tasks[claim.key])
        recorded = self.finishes.record([replace(result, **fields)])  # type: ignore[arg-type]  # named by the caller
        self.finishes.learn()
        return recorded


@pytest.fixture
def hand(slave_database: Database) -> Callable[[str], Hand]:
    """Make slaves by name, with the rights of slaves."""

    def make(slave_id: str, lease: timedelta = LEASE) -> Hand:
        return Hand(
            slave_id=slave_id,
            claims=Claims(slave_database, slave_id=slave_id, lease=lease),
            finishes=Finishes(slave_database, slave_id=slave_id),
        )

    return make


@pytest.fixture
def master_settings(master_database: Database, beanstalk_settings: BeanstalkSettings) -> MasterSettings:
    """A master's settings with times that tests can wait for."""
    mysql = master_database.settings
    environ = {
        "MYSQL_HOST": mysql.host,
        "MYSQL_PORT": str(mysql.port),
        "MYSQL_USER": mysql.user,
        "MYSQL_PWD": mysql.password,
        "MYSQL_DB": mysql.database,
        "BEANSTALK_HOST": beanstalk_settings.host,
        "BEANSTALK_PORT": str(beanstalk_settings.port),
        "BEANSTALK_TUBE": beanstalk_settings.tube,
        "AWS_ACCESS_KEY": "unused",
        "AWS_SECRET_KEY": "unused",
        "TEST_RESULT_BUCKET": "unused",
        "DIST_TEST_MASTER_SETUP_RETRY_SECONDS": "0",
        "DIST_TEST_MASTER_SUBMIT_LEASE_SECONDS": "0.5",
        "DIST_TEST_MASTER_QUEUED_GRACE_SECONDS": "0.2",
        "HOME": "/nonexistent",
    }
    return load_master_settings(environ)


@pytest.fixture
def service(master_settings: MasterSettings, master_database: Database, queues: Queues) -> Service:
    """A master's rules on the test's database and tube, with a master's rights."""
    return Service(master_settings, master_database, queues)


@pytest.fixture
def let_lapse(database: Database) -> Callable[[], None]:
    """Move the end of every lease on attempts into the past, as if its holder had been silent for too long."""

    def lapse() -> None:
        with database.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE attempts SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND"
                    " WHERE lease_until IS NOT NULL"
                )
            )

    return lapse


@pytest.fixture
def take(queue: Queue) -> Callable[[], QueueEntry]:
    """Reserve the next entry of the tube, which has one."""

    def reserve() -> QueueEntry:
        reservation = queue.reserve(timeout_seconds=0)
        assert reservation is not None, "the tube is empty"
        return QueueEntry.from_body(reservation.body)

    return reserve


def job(*descriptions: str, job_id: str = "job", owner: str = "ann", max_retries: int = 0, **fields: object) -> Job:
    """A job with a task for each description."""
    tasks = tuple(
        Task(isolate_hash="a" * 40, description=description, timeout_seconds=60, max_retries=max_retries)
        for description in descriptions
    )
    return replace(Job(job_id=job_id, tasks=tasks, owner=owner), **fields)  # type: ignore[arg-type]  # named by the caller


def store_large_job(database: Database, key: int, tasks: int) -> None:
    """A job whose tasks all wait, as rows alone."""
    statements = (
        "INSERT INTO jobs (job_key, job_id, name, project, owner, fingerprint, state, period, first_tag, weight,"
        " submitted_at, enqueued_at, total_tasks, total_attempts)"
        " VALUES (:job, :job, '', '', 'ann', '', 'running', 1, 0, 1, '2026-01-01', '2026-01-01', :tasks, :tasks)",
        "INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries)"
        " SELECT :job, seq, 'aa', 'a test', 0, 1 FROM seq_0_to_99999 WHERE seq < :tasks",
        "INSERT INTO attempts (job_key, task_index, attempt, queued_at)"
        " SELECT :job, seq, 0, '2026-01-01' FROM seq_0_to_99999 WHERE seq < :tasks",
        "ANALYZE TABLE tasks, attempts",
    )
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), {"job": key, "tasks": tasks})


def rows_read(database: Database) -> int:
    """How many rows the server's tables have given so far."""
    with database.engine.connect() as connection:
        rows = connection.execute(text("SHOW GLOBAL STATUS LIKE 'Handler_read%'"))
        return sum(int(value) for _, value in rows)
