"""The autoscaler's side of the database, with its own rights: what it reads, and what two of them cannot do."""

from collections.abc import Iterator
from datetime import timedelta

import greenstalk
import pytest
from sqlalchemy import text

from dist_test.local.daemons import Beanstalkd
from dist_test.settings import BeanstalkSettings
from dist_test.storage.autoscaling import EVERY_GROUP, Ask, AuditRecord, Autoscaling
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue
from dist_test.storage.tube import Tube

from .conftest import attempt, register, want_of


@pytest.fixture
def tube(beanstalk_settings: BeanstalkSettings) -> Iterator[Tube]:
    tube = Tube(beanstalk_settings)
    yield tube
    tube.close()


def test_work_is_told_by_job_and_by_what_runs(database: Database, records: Autoscaling) -> None:
    attempt(database, 0, expected=100.0)
    attempt(database, 1, expected=50.0, slave="a", leased_for=30, ran_for=20)
    attempt(database, 2, expected=5.0, slave="a", leased_for=30, ran_for=20)
    attempt(database, 0, job="other", expected=7.0)

    other, job = sorted(records.read(default_seconds=60).jobs, key=lambda job: job.longest_seconds)

    assert (job.job_id, job.waiting, job.waiting_seconds, job.running, job.longest_seconds) == ("job", 1, 100, 2, 100)
    assert job.running_seconds_left == pytest.approx(30, abs=5)
    assert (other.job_id, other.waiting, other.waiting_seconds, other.running) == ("other", 1, 7, 0)


def test_a_task_without_history_is_taken_to_last_the_default(database: Database, records: Autoscaling) -> None:
    attempt(database, expected=None)

    (job,) = records.read(default_seconds=42).jobs

    assert (job.waiting_seconds, job.longest_seconds) == (42, 42)


def test_what_a_silent_slave_has_leased_waits_once_the_lease_is_over(database: Database, records: Autoscaling) -> None:
    attempt(database, slave="a", leased_for=-1)

    (job,) = records.read(default_seconds=60).jobs

    assert (job.waiting, job.running) == (1, 0)


def test_finished_attempts_are_no_work(database: Database, records: Autoscaling) -> None:
    attempt(database)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE attempts SET finished_at = UTC_TIMESTAMP(6)"))

    assert records.read(default_seconds=60).jobs == ()


def test_slaves_are_told_with_their_leases(database: Database, records: Autoscaling) -> None:
    register(database, "a", busy=1)
    register(database, "b", silent_for=3600)
    register(database, "long-gone", silent_for=90000)
    attempt(database, slave="a", leased_for=30)

    reading = records.read(default_seconds=60)

    assert [(slave.slave_id, slave.has_lease, slave.busy) for slave in reading.slaves] == [
        ("a", True, 1),
        ("b", False, 0),
    ]
    assert reading.slaves[0].idle_since is None
    assert reading.now - reading.slaves[1].heartbeat >= timedelta(hours=1)


def test_a_drained_slave_is_deleted_once(database: Database, records: Autoscaling) -> None:
    epoch = records.begin_term("x").epoch
    register(database, "a", want="drain", state="drained")

    assert records.ask(Ask.DELETE, "a", "id-a", epoch=epoch)
    assert not records.ask(Ask.RUN, "a", "id-a", epoch=epoch), "its machine may be gone already"
    assert want_of(database, "a") == "delete"
    assert records.ask(Ask.DELETE, "a", "id-a", epoch=epoch), "the call that failed is made again"


def test_a_slave_whose_drain_was_taken_back_is_not_deleted(database: Database, records: Autoscaling) -> None:
    epoch = records.begin_term("x").epoch
    register(database, "a", want="drain", state="drained")

    assert records.ask(Ask.RUN, "a", "id-a", epoch=epoch)
    assert not records.ask(Ask.DELETE, "a", "id-a", epoch=epoch)
    assert want_of(database, "a") == "run"


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"state": "draining"}, id="not drained yet"),
        pytest.param({"state": "up"}, id="restarted"),
        pytest.param({"busy": 1}, id="busy"),
        pytest.param({"instance_id": "another"}, id="another machine"),
        pytest.param({"want": "run"}, id="never asked"),
    ],
)
def test_only_a_drained_slave_is_deleted(database: Database, records: Autoscaling, columns: dict[str, object]) -> None:
    epoch = records.begin_term("x").epoch
    register(database, "a", **{"want": "drain", "state": "drained"} | columns)

    assert not records.ask(Ask.DELETE, "a", "id-a", epoch=epoch)


def test_a_slave_with_a_lease_is_not_deleted(database: Database, records: Autoscaling) -> None:
    epoch = records.begin_term("x").epoch
    register(database, "a", want="drain", state="drained")
    attempt(database, slave="a", leased_for=30)

    assert not records.ask(Ask.DELETE, "a", "id-a", epoch=epoch)


def test_who_led_before_changes_nothing_any_more(database: Database, records: Autoscaling) -> None:
    old = records.begin_term("old").epoch
    register(database, "a")
    new = records.begin_term("new").epoch

    assert not records.ask(Ask.DRAIN, "a", "id-a", epoch=old)
    assert not records.save(epoch=old, state="{}", summary="{}")
    records.record(AuditRecord(hold=None, desired=1, document="{}"), epoch=old)
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM autoscale_audit")).scalar() == 0
    assert records.ask(Ask.DRAIN, "a", "id-a", epoch=new)


def test_the_state_goes_to_the_next_leader(records: Autoscaling) -> None:
    first = records.begin_term("one")
    assert first.state is None
    assert records.save(epoch=first.epoch, state="state", summary="{}")

    second = records.begin_term("two")

    assert (second.epoch, second.state) == (first.epoch + 1, "state")
    standing = records.standing()
    assert standing is not None
    assert (standing.leader, standing.summary) == ("two", "{}")
    assert standing.age is not None
    assert standing.age < timedelta(seconds=30)


def test_records_older_than_a_month_are_removed(database: Database, records: Autoscaling) -> None:
    epoch = records.begin_term("x").epoch
    for _ in range(2):
        records.record(AuditRecord(hold="stale_db", desired=None, document="{}"), epoch=epoch)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE autoscale_audit SET at = at - INTERVAL 31 DAY LIMIT 1"))

    assert (records.forget_old_records(), records.forget_old_records()) == (1, 0)


def test_pins_are_kept_and_taken_back(records: Autoscaling) -> None:
    records.pin("spot-b", 3, by="ann")
    records.pin("spot-b", 4, by="bob")
    records.pin(EVERY_GROUP, None, by="ann")

    assert [(pin.group, pin.size, pin.by) for pin in records.pins()] == [("", None, "ann"), ("spot-b", 4, "bob")]
    assert (records.unpin("spot-b"), records.unpin("spot-b")) == (True, False)


def test_a_slave_that_was_heard_of_is_alive(database: Database, records: Autoscaling) -> None:
    for name in ("here", "leased", "gone"):
        register(database, name, silent_for=0 if name == "here" else 100)
    attempt(database, slave="leased", leased_for=30)
    silence = timedelta(seconds=60)

    alive = [
        name for name in ("here", "leased", "gone", "unknown") if records.is_alive(name, f"id-{name}", silence=silence)
    ]

    assert alive == ["here", "leased"]


def test_a_tube_that_nobody_uses_is_missing(tube: Tube, queue: Queue) -> None:
    assert tube.read().is_missing
    assert tube.read().is_missing, "looking does not make it"

    queue.put("body", priority=1)

    reading = tube.read()
    assert (reading.is_missing, reading.ready, reading.is_paused) == (False, 1, False)


def test_a_paused_tube_is_told(
    tube: Tube, queue: Queue, beanstalkd: Beanstalkd, beanstalk_settings: BeanstalkSettings
) -> None:
    queue.put("body", priority=1)
    with greenstalk.Client((beanstalkd.host, beanstalkd.port)) as client:
        client.pause_tube(beanstalk_settings.tube, 60)

    assert tube.read().is_paused
