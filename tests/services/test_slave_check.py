"""`dist-test-slave check`: what the row of a slave says about it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from dist_test.errors import DatabaseUnavailable, SlaveNotReady
from dist_test.settings import SlaveSettings, load_slave_settings
from dist_test.slave.check import check
from dist_test.storage.database import Database
from dist_test.storage.slaves import SlaveDescription, Slaves

from ..fakes.clock import FakeClock

NO_TIME = timedelta(0)


@pytest.fixture
def settings(database: Database) -> SlaveSettings:
    return load_slave_settings(
        {
            "DIST_TEST_MASTER": "http://master.example",
            "ISOLATE_SERVER": "http://isolate.example",
            "MYSQL_HOST": database.settings.host,
            "MYSQL_PORT": str(database.settings.port),
            "MYSQL_USER": database.settings.user,
            "MYSQL_PWD": database.settings.password,
            "MYSQL_DB": database.settings.database,
            "BEANSTALK_HOST": "queue.example",
            "AWS_ACCESS_KEY": "unused",
            "AWS_SECRET_KEY": "unused",
            "TEST_RESULT_BUCKET": "unused",
            "DIST_TEST_SLAVE_ID": "slave-1",
            "HOME": "/nonexistent",
        }
    )


@pytest.fixture
def register(database: Database) -> Callable[[], None]:
    """Do what a slave does when it starts."""
    slave = SlaveDescription(slave_id="slave-1", instance_id="", zone="", mig="", template="", slots=4, version="0.1.0")
    return lambda: Slaves(database).register(slave)


def _set(database: Database, assignments: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(f"UPDATE slaves SET {assignments}"))  # noqa: S608  # the test's own words


def test_a_slave_that_just_beat_is_well(settings: SlaveSettings, register: Callable[[], None]) -> None:
    register()
    assert check(settings, wait=NO_TIME) == "slave slave-1 is up: 0 of 4 slots are busy"


def test_a_slave_that_never_registered_is_not_ready(settings: SlaveSettings) -> None:
    with pytest.raises(SlaveNotReady, match="no slave has registered as slave-1"):
        check(settings, wait=NO_TIME)


def test_a_slave_is_given_time_to_register(settings: SlaveSettings, register: Callable[[], None]) -> None:
    clock = FakeClock(lambda: None, register)
    assert "is up" in check(settings, wait=timedelta(seconds=30), now=clock.now, sleep=clock.sleep)


def test_three_missed_heartbeats_are_too_many(
    settings: SlaveSettings, register: Callable[[], None], database: Database
) -> None:
    register()
    _set(database, "heartbeat = UTC_TIMESTAMP(6) - INTERVAL 16 SECOND")
    with pytest.raises(SlaveNotReady, match="slave slave-1 is silent since 2"):
        check(settings, wait=NO_TIME)


@pytest.mark.parametrize("state", ["draining", "drained"])
def test_a_slave_that_drains_as_it_was_asked_to_is_well(
    settings: SlaveSettings, register: Callable[[], None], database: Database, state: str
) -> None:
    register()
    _set(database, f"want = 'drain', state = '{state}'")
    assert f"is {state}" in check(settings, wait=NO_TIME)


@pytest.mark.parametrize(
    ("assignments", "complaint"),
    [("state = 'drained'", "is drained;"), ("state = 'quarantined', message = 'no disk'", "is quarantined: no disk;")],
    ids=["its service ends", "tasks cannot be set up"],
)
def test_a_slave_that_takes_no_tasks_unasked_is_not_ready(
    settings: SlaveSettings, register: Callable[[], None], database: Database, assignments: str, complaint: str
) -> None:
    register()
    _set(database, assignments)
    with pytest.raises(SlaveNotReady, match=complaint):
        check(settings, wait=NO_TIME)


def test_a_database_that_is_away_is_told(settings: SlaveSettings, free_port: int) -> None:
    away = replace(settings, mysql=replace(settings.mysql, port=free_port))
    with pytest.raises(DatabaseUnavailable):
        check(away, wait=NO_TIME)
