"""The autoscaler with everything real but the cloud: slaves are bought, lost, and given back, and no test is killed.

Times are a tenth of what they are in a deployed cluster.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from dist_test.local.ports import free_port
from dist_test.local.program import beside_python

from ..fakes.compute_engine import FakeComputeEngine, serving
from ..fakes.discovery import Call
from ..fakes.instance_groups import Driver, Group, Machine, Times
from ..fakes.instance_processes import SlaveProcesses
from ..farm import Farm, wait

ZONES = {"spot-b": "us-central1-b", "spot-c": "us-central1-c"}


class Autoscaler:
    """A running `dist-test-autoscale`, and what it has logged."""

    def __init__(self, configuration: Path) -> None:
        self.log_path = configuration.with_suffix(".log")
        environment = {**os.environ, "DIST_TEST_CNF": ""}
        with self.log_path.open("wb") as log:
            command = [beside_python("dist-test-autoscale"), "run", "--config", str(configuration)]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop(self) -> int:
        """End it; give its exit status."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


class Watched(SlaveProcesses):
    """Slaves as machines; looks, whenever one is deleted, whether it still holds an attempt."""

    def __init__(self, command: Sequence[str], farm: Farm) -> None:
        super().__init__(command, farm.slave_configuration)
        self._farm = farm
        self.deleted: list[str] = []
        self.killed_at_work: list[str] = []

    def shut_down(self, machine: Machine) -> None:
        if machine.action == "DELETING":
            self.deleted.append(machine.name)
            held = self._farm.sql(
                "SELECT 1 FROM attempts JOIN slaves USING (slave_id) WHERE slave_id = :name AND instance_id = :id"
                " AND finished_at IS NULL AND lease_until > UTC_TIMESTAMP(6)",
                name=machine.name,
                id=machine.id,
            )
            self.killed_at_work += [machine.name] * len(held)
        super().shut_down(machine)


@pytest.fixture
def autoscalers() -> Iterator[ExitStack]:
    """Ends the autoscalers that a test starts."""
    with ExitStack() as stack:
        yield stack


def write_configuration(farm: Farm, endpoint: str, name: str, *, interval_s: int = 3) -> Path:
    """The configuration of one autoscaler, with two groups."""
    account, beanstalkd = farm.accounts["autoscaler"], farm.beanstalkd
    secret = farm.directory / "autoscaler-password"
    secret.write_text(account.password)
    path = farm.directory / f"{name}.toml"
    groups = "".join(
        f'[[autoscale.group]]\nname = "{group}"\nzone = "{zone}"\npriority = {place}\nspot = true\nmax = 6\n'
        for place, (group, zone) in enumerate(ZONES.items())
    )
    path.write_text(
        f"""
[autoscale]
interval_s = {interval_s}
stale_s = 20
project = "our-project"
credentials = "anonymous"
listen = "127.0.0.1:{free_port()}"
api_endpoint = "{endpoint}"
[autoscale.queue]
host = "{beanstalkd.host}"
port = {beanstalkd.port}
[autoscale.mysql]
host = "{account.host}"
port = {account.port}
user = "{account.user}"
password_file = "{secret}"
db = "{account.database}"
[autoscale.size]
target_drain_s = 30
default_task_s = 1
[autoscale.out]
boot_s_default = 3
failed_after_s = 4.5
[autoscale.in]
stabilize_s = 10
idle_grace_s = 3
min_uptime_s = 3
max_per_min = 40
drain_ack_timeout_s = 30
queue_restart_hold_s = 30
{groups}"""
    )
    return path


def make_cloud(farm: Farm, driver: Driver | None, stock: int | None = None) -> FakeComputeEngine:
    """Two empty groups; the first one's zone has room for `stock`."""
    times = Times(boot=3.0, notice=3.0, shutdown=3.0, retry=3.0)
    cloud = FakeComputeEngine(times=times, driver=driver)
    for name, zone in ZONES.items():
        cloud.add(Group(name=name, zones=(zone,), stock={} if stock is None else {ZONES["spot-b"]: stock}))
    return cloud


def sizes(cloud: FakeComputeEngine) -> dict[str, int]:
    return {name: group.target for name, group in cloud.world.groups.items()}


def test_a_burst_is_worked_off_whatever_happens_and_no_slave_is_left(farm: Farm, autoscalers: ExitStack) -> None:
    farm.start()
    slaves = Watched([beside_python("dist-test-slave")], farm)
    cloud = make_cloud(farm, slaves, stock=2)
    endpoint = autoscalers.enter_context(serving(cloud))
    autoscaler = Autoscaler(write_configuration(farm, endpoint, "first"))
    autoscalers.callback(autoscaler.stop)

    digest = farm.archive("sleep 1")
    farm.submit("burst", *({"isolate_hash": digest, "description": f"t{number}"} for number in range(200)))

    def finished() -> int:
        return int(farm.sql("SELECT COUNT(*) AS n FROM attempts WHERE finished_at IS NOT NULL")[0].n)

    # The second group buys what the first one's zone has no room for.
    wait(lambda: finished() >= 20 and sizes(cloud)["spot-c"] > 0, 90, autoscaler.log_path.read_text)
    busy = farm.sql("SELECT slave_id FROM slaves WHERE busy > 0 ORDER BY slave_id")
    cloud.preempt(busy[0].slave_id)
    state = "SELECT state FROM slaves WHERE slave_id = :name"
    wait(lambda: farm.sql(state, name=busy[0].slave_id) == [("preempted",)], 10)
    wait(lambda: finished() >= 60, 90, autoscaler.log_path.read_text)
    farm.beanstalkd.kill()
    farm.beanstalkd.start()

    job = farm.wait_for_job("burst", 150)
    assert [one for one in farm.attempts("burst") if one["outcome"] != "succeeded"] == []
    assert job["result"] == "succeeded"
    rows = farm.sql("SELECT outcome, COUNT(*) AS n FROM attempts GROUP BY outcome")
    assert [(row.outcome, row.n) for row in rows] == [("succeeded", 200)]
    wait(lambda: not any(group.machines for group in cloud.world.groups.values()), 90, autoscaler.log_path.read_text)

    assert sizes(cloud) == {"spot-b": 0, "spot-c": 0}
    assert slaves.killed_at_work == []
    assert len(slaves.deleted) >= 4
    assert (cloud.violations, cloud.shrinks()) == ([], [])
    assert autoscaler.stop() == 0


def test_a_leader_that_was_frozen_before_its_purchase_does_not_make_it(farm: Farm, autoscalers: ExitStack) -> None:
    farm.start()
    cloud = make_cloud(farm, None)
    endpoint = autoscalers.enter_context(serving(cloud))
    first = Autoscaler(write_configuration(farm, endpoint, "first", interval_s=4))
    autoscalers.callback(first.stop)
    wait(lambda: len(cloud.calls) > 4, 30, first.log_path.read_text)
    looked_at = 0.0
    frozen: list[int] = []

    def freeze(call: Call) -> None:
        """Stop the leader when it asks for the target that it is to raise: a second look in the same round."""
        nonlocal looked_at
        if (call.names.get("instanceGroupManager"), call.action) != ("spot-b", "get") or frozen:
            return
        if time.monotonic() - looked_at < 3.5:  # rounds begin 4 s apart
            os.kill(first.process.pid, signal.SIGSTOP)
            frozen.append(first.process.pid)
        looked_at = time.monotonic()

    cloud.on_call = freeze
    farm.submit("j", {"isolate_hash": farm.archive("true"), "description": "t"})
    wait(lambda: bool(frozen), 30, first.log_path.read_text)
    assert cloud.changes() == []

    second = Autoscaler(write_configuration(farm, endpoint, "second", interval_s=4))
    autoscalers.callback(second.stop)
    wait(lambda: len(cloud.changes()) == 1, 60, second.log_path.read_text)
    os.kill(first.process.pid, signal.SIGCONT)
    wait(lambda: "no time is left for it" in first.log_path.read_text(), 30, first.log_path.read_text)
    calls = len(cloud.calls)
    wait(lambda: len(cloud.calls) > calls + 8, 60)

    assert len(cloud.changes()) == 1
    assert sizes(cloud) == {"spot-b": 1, "spot-c": 0}
    assert cloud.violations == []
    assert (first.stop(), second.stop()) == (0, 0)
