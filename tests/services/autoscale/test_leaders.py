"""Two services as processes: who leads when one dies or freezes, and what one does that comes back."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from dist_test.local.daemons import MariaDb
from dist_test.storage.autoscaling import Autoscaling
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue

from ...accounts import administer
from ...fakes.compute_engine import FakeComputeEngine
from ...fakes.compute_engine import serving as serving_fake
from ...fakes.instance_groups import Group, Times
from ...farm import wait
from .conftest import MakeSettings
from .programs import INTERVAL_S, Program, leads, standing_epoch, start_program


@pytest.fixture
def fake() -> Iterator[FakeComputeEngine]:
    fake = FakeComputeEngine(times=Times(boot=0.0))
    fake.add(Group(name="spot-b", zones=("us-central1-b",)))
    yield fake
    assert fake.violations == []
    assert fake.shrinks() == []


@pytest.fixture
def start(
    make_settings: MakeSettings, fake: FakeComputeEngine, tmp_path: Path, queue: Queue
) -> Iterator[Callable[[], Program]]:
    """Start another service, and wait until it decides or stands by."""
    queue.statistics()
    programs: list[Program] = []
    with serving_fake(fake) as endpoint:
        written = make_settings().path.read_text()

        def start() -> Program:
            program = start_program(written, endpoint, tmp_path / f"autoscale-{len(programs)}.toml")
            programs.append(program)
            wait(program.is_healthy, 60, program.log.read_text)
            return program

        yield start
        for program in programs:
            program.kill()


def test_sigterm_ends_the_service_and_leaves_the_sizes(
    start: Callable[[], Program], fake: FakeComputeEngine, records: Autoscaling
) -> None:
    fake.world.resize(fake.world.groups["spot-b"], 2)
    program = start()
    wait(lambda: leads(records, program))

    program.process.terminate()

    assert program.process.wait(timeout=30) == 0
    assert fake.world.groups["spot-b"].target == 2


def test_another_leads_at_once_when_the_leader_is_killed(start: Callable[[], Program], records: Autoscaling) -> None:
    first = start()
    second = start()
    assert leads(records, first)

    first.process.kill()

    wait(lambda: leads(records, second), 2 * INTERVAL_S + 5)


def test_another_leads_when_the_leader_freezes_and_the_frozen_one_acts_no_more(
    start: Callable[[], Program], records: Autoscaling
) -> None:
    first = start()
    second = start()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        wait(lambda: leads(records, second), 4 * INTERVAL_S + 10)
        epoch = standing_epoch(records)
    finally:
        os.kill(first.pid, signal.SIGCONT)

    wait(lambda: "No longer leading" in first.log.read_text(), 20)
    assert leads(records, second)
    assert standing_epoch(records) == epoch


def test_the_lock_that_was_lost_with_its_connection_is_taken_anew(
    start: Callable[[], Program], database: Database, records: Autoscaling, mariadb: MariaDb
) -> None:
    """As when MySQL restarts: it stands by, then leads again, in another epoch."""
    program = start()
    epoch = standing_epoch(records)
    with database.engine.connect() as connection:
        name = f"dist_test.autoscaler.{database.settings.database}"
        holder = connection.execute(text("SELECT IS_USED_LOCK(:name)"), {"name": name}).scalar_one()
    administer(mariadb, f"KILL {holder}")

    wait(lambda: standing_epoch(records) > epoch, 20)
    assert leads(records, program)
