"""`run --once` and `plan` of the program itself: how it ends, and what it says."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test.local.program import beside_python
from dist_test.storage.database import Database
from dist_test.storage.leader import Leadership
from dist_test.storage.queue import Queue
from dist_test_autoscale.settings import Settings

from ...fakes.compute_engine import FakeComputeEngine, Fault, serving
from ...fakes.instance_groups import Group, Times
from .conftest import MakeSettings, attempt


@pytest.fixture
def fake() -> Iterator[FakeComputeEngine]:
    fake = FakeComputeEngine(times=Times(boot=0.0))
    fake.add(Group(name="spot-b", zones=("us-central1-b",)))
    yield fake
    assert fake.violations == []


@pytest.fixture
def config(make_settings: MakeSettings, fake: FakeComputeEngine, database: Database, queue: Queue) -> Iterator[Path]:
    """A configuration of the fake; three tasks wait."""
    for index in range(3):
        attempt(database, index, expected=100.0)
        queue.put(str(index), priority=1)
    settings: Settings = make_settings()
    with serving(fake) as endpoint:
        text = settings.path.read_text().replace(settings.api_endpoint, endpoint)
        settings.path.write_text(text)
        yield settings.path


def run(config: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [beside_python("dist-test-autoscale"), *arguments, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_one_round_buys_what_work_needs(config: Path, fake: FakeComputeEngine) -> None:
    done = run(config, "run", "--once")
    assert (done.returncode, fake.world.groups["spot-b"].target) == (0, 3), done.stderr


def test_a_dry_round_asks_for_nothing_but_readings(config: Path, fake: FakeComputeEngine) -> None:
    done = run(config, "run", "--once", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert {call.action for call in fake.calls} == {"get", "listManagedInstances"}
    assert '"kind": "grow"' in done.stderr


def test_plan_wants_a_change(config: Path, fake: FakeComputeEngine) -> None:
    done = run(config, "plan", "--json")
    assert done.returncode == 10, done.stderr
    assert json.loads(done.stdout)["actions"] == [{"kind": "grow", "group": "spot-b", "n": 3}]
    assert {call.action for call in fake.calls} == {"get", "listManagedInstances"}


def test_an_act_that_fails_is_told(config: Path, fake: FakeComputeEngine) -> None:
    fake.faults.append(Fault(action="resize", status=400, reason="invalid"))
    assert run(config, "run", "--once").returncode == 1


def test_a_group_that_cannot_be_read_is_told(config: Path, fake: FakeComputeEngine) -> None:
    fake.faults.append(Fault(status=403, reason="forbidden", times=9))
    done = run(config, "run", "--once")
    assert done.returncode == 3
    assert "spot-b in us-central1-b of project our-project" in done.stderr


def test_while_another_leads_nothing_is_done(config: Path, fake: FakeComputeEngine, database: Database) -> None:
    leader = Leadership(database, "autoscaler")
    assert leader.holds()
    try:
        assert run(config, "run", "--once").returncode == 4
    finally:
        leader.resign()
    assert fake.calls == []


def test_a_database_that_is_away_is_told(config: Path, free_port: int) -> None:
    lines = config.read_text().splitlines()
    place = lines.index("[autoscale.mysql]")
    lines[place + 2] = f"port = {free_port}"
    config.write_text("\n".join(lines))
    done = run(config, "run", "--once")
    assert (done.returncode, "did not do its work" in done.stderr) == (3, True), done.stderr
