"""A cluster for the autoscaler: real MariaDB and beanstalkd, with its own rights, and configurations that name them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dist_test.settings import BeanstalkSettings, MysqlSettings
from dist_test.storage.autoscaling import Autoscaling
from dist_test.storage.database import Database
from dist_test_autoscale.settings import Settings, load_settings

MakeSettings = Callable[..., Settings]


@pytest.fixture
def autoscaler_database(accounts: Mapping[str, MysqlSettings], database: Database) -> Iterator[Database]:
    """The database with an autoscaler's rights."""
    restricted = Database(accounts["autoscaler"])
    yield restricted
    restricted.close()


@pytest.fixture
def records(autoscaler_database: Database) -> Autoscaling:
    return Autoscaling(autoscaler_database)


@pytest.fixture
def make_settings(
    autoscaler_database: Database, beanstalk_settings: BeanstalkSettings, tmp_path: Path, free_port: int
) -> MakeSettings:
    """Write a configuration of one group, spot-b, and load it; keywords replace fields of the settings."""

    def make(*, extra: str = "", **changed: Any) -> Settings:
        path = tmp_path / "autoscale.toml"
        path.write_text(toml(autoscaler_database.settings, beanstalk_settings, tmp_path, free_port) + extra)
        return replace(load_settings(path), **changed)

    return make


def toml(mysql: MysqlSettings, beanstalk: BeanstalkSettings, directory: Path, port: int) -> str:
    """A configuration of one group, spot-b."""
    secret = directory / "password"
    secret.write_text(mysql.password)
    return f"""
[autoscale]
interval_s = 10
project = "our-project"
credentials = "anonymous"
listen = "127.0.0.1:{port}"
api_endpoint = "http://127.0.0.1:9/compute/v1/"
[autoscale.queue]
host = "{beanstalk.host}"
port = {beanstalk.port}
tube = "{beanstalk.tube}"
[autoscale.mysql]
host = "{mysql.host}"
port = {mysql.port}
user = "{mysql.user}"
password_file = "{secret}"
db = "{mysql.database}"
[[autoscale.group]]
name = "spot-b"
zone = "us-central1-b"
spot = true
max = 10
"""


def register(database: Database, name: str, **columns: Any) -> None:
    """Write the row of a slave as it would itself, idle since long ago; times are SQL."""
    values: dict[str, Any] = {"instance_id": f"id-{name}", "slots": 1, "busy": 0, "state": "up", "want": "run"}
    values |= columns
    idle_for, silent_for = values.pop("idle_for", 1000), values.pop("silent_for", 0)
    statement = text("""
        INSERT INTO slaves (slave_id, instance_id, slots, busy, state, want, idle_since, started_at, heartbeat, version)
        VALUES (:name, :instance_id, :slots, :busy, :state, :want,
                IF(:busy > 0, NULL, UTC_TIMESTAMP(6) - INTERVAL :idle_for SECOND),
                UTC_TIMESTAMP(6) - INTERVAL 2000 SECOND, UTC_TIMESTAMP(6) - INTERVAL :silent_for SECOND, 'v')
    """)
    with database.engine.begin() as connection:
        connection.execute(statement, values | {"name": name, "idle_for": idle_for, "silent_for": silent_for})


def attempt(database: Database, index: int = 0, *, job: str = "job", **columns: Any) -> None:
    """Write an unfinished attempt as submits and claims do: waiting, unless `leased_for` seconds to `slave`."""
    values: dict[str, Any] = {"expected": 60.0, "slave": None, "leased_for": None, "ran_for": 0} | columns
    values |= {"job": job, "index": index, "key": sum(map(ord, job))}
    statements = (
        """
        INSERT IGNORE INTO jobs (job_key, job_id, name, project, owner, fingerprint, state, period, first_tag, weight,
                                 submitted_at, total_tasks, total_attempts)
        VALUES (:key, :job, '', '', 'ann', '', 'running', 1, 0, 1, UTC_TIMESTAMP(6), 1, 1)
        """,
        """
        INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries,
                           expected_seconds)
        VALUES (:key, :index, '', '', 0, 0, :expected)
        """,
        """
        INSERT INTO attempts (job_key, task_index, attempt, charge_seconds, has_started, slave_id, lease_until,
                              started_at)
        VALUES (:key, :index, 0, COALESCE(:expected, 30), :slave IS NOT NULL, :slave,
                UTC_TIMESTAMP(6) + INTERVAL :leased_for SECOND, UTC_TIMESTAMP(6) - INTERVAL :ran_for SECOND)
        """,
    )
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), values)


def want_of(database: Database, name: str) -> str:
    """What is asked of a slave."""
    with database.engine.connect() as connection:
        return str(connection.execute(text("SELECT want FROM slaves WHERE slave_id = :name"), {"name": name}).scalar())
