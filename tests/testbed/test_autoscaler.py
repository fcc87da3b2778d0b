"""The deployed autoscaler, with a fake Compute Engine on this computer: it reads, buys, says who leads, is followed."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from images.commands import MachineError
from tests.fakes.compute_engine import FakeComputeEngine, serving
from tests.fakes.instance_groups import Group
from tests.testbed.bed import Bed
from tests.testbed.conftest import Phase
from tests.testbed.deployments import deploy_with_ansible
from tests.testbed.laptop import Laptop
from tests.testbed.live import LiveCluster, wait

pytestmark = pytest.mark.full

_HOSTS = ("master1", "database1")
_GROUP = "spot-b"
_MAX = 10
_PROOF = "sudo /usr/local/lib/dist_test/autoscaler-prove 127.0.0.1:9109"
_BURST = 60
_READY_SECONDS = 90
# Three intervals of the testbed, after which MySQL takes the lock from a connection that says nothing.
_SUCCESSION_SECONDS = 60


@pytest.fixture(scope="module")
def cluster(bed: Bed, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> LiveCluster:
    """Deployed while no Compute Engine listens, which the role's proof lets pass."""
    with phase("deployment with autoscalers"):
        deploy_with_ansible("testbed")
    return LiveCluster(bed=bed, laptop=Laptop.beside(bed, tmp_path_factory.mktemp("laptop")))


@pytest.fixture(scope="module")
def engine(cluster: LiveCluster) -> Iterator[FakeComputeEngine]:
    """Where the inventory looks for it; its machines boot for longer than the tests last."""
    fake = FakeComputeEngine(project="our-project")
    fake.add(Group(name=_GROUP, zones=("us-central1-b",)))
    port = int(os.environ.get("TESTBED_COMPUTE_PORT", "8399"))
    with serving(fake, host=str(cluster.bed.network.subnet[1]), port=port):
        for name in _HOSTS:
            # After refusals it leaves a group alone for up to five minutes, of which a new process knows nothing.
            cluster.bed.host(name).ssh("sudo systemctl restart dist-test-autoscaler.service")
        yield fake
    assert fake.violations == []


def status(bed: Bed, name: str = "database1") -> dict[str, Any]:
    """What the program says to people on the host; {} as long as it fails."""
    try:
        found: dict[str, Any] = json.loads(bed.host(name).ssh("sudo dist-test-autoscale status --json"))
    except MachineError:
        return {}
    return found


def leads(bed: Bed, name: str) -> bool:
    found = status(bed)
    return bool(found.get("is_current")) and str(found["leader"]).startswith(f"{name}:")


def test_service_is_up_and_changes_nothing_while_nobody_can_tell_the_size(cluster: LiveCluster) -> None:
    found = status(cluster.bed)
    assert found["is_current"]
    assert found["last"]["hold"] == "no_usable_group"


def test_hosts_agree_on_who_leads(cluster: LiveCluster) -> None:
    leaders = {str(status(cluster.bed, name)["leader"]) for name in _HOSTS}
    assert len(leaders) == 1
    assert leaders.pop().partition(":")[0] in _HOSTS


def test_a_burst_of_tasks_makes_it_buy_slaves(cluster: LiveCluster, engine: FakeComputeEngine) -> None:
    wait(lambda: "leading" in proofs(cluster.bed), _READY_SECONDS)
    assert engine.changes() == []
    digest = cluster.archive("sleep 120")
    job = cluster.submit([{"isolate_hash": digest, "description": f"burst{n}"} for n in range(_BURST)])
    wait(lambda: engine.world.groups[_GROUP].target == _MAX, _READY_SECONDS)
    # The next round reads what this one has bought.
    bought = {"name": _GROUP, "target": _MAX, "instances": _MAX, "ok": True}
    wait(lambda: status(cluster.bed)["last"]["groups"] == [bought], _READY_SECONDS)
    cluster.laptop.run("cancel", job.job_id)
    job.exit_status(_READY_SECONDS)
    assert {call.action for call in engine.changes()} == {"resize"}
    assert engine.shrinks() == []


def test_another_host_takes_over_from_one_that_lost_its_power(cluster: LiveCluster, engine: FakeComputeEngine) -> None:
    make_lead(cluster.bed, "master1")
    before = status(cluster.bed)["epoch"]
    cluster.bed.power_off(["master1"])
    wait(lambda: leads(cluster.bed, "database1"), _SUCCESSION_SECONDS)
    assert status(cluster.bed)["epoch"] == before + 1
    cluster.become_whole()
    wait(lambda: "this one: standing by" in cluster.bed.host("master1").ssh(_PROOF), _READY_SECONDS)
    assert leads(cluster.bed, "database1")


def proofs(bed: Bed) -> list[str]:
    """What the service of each host says of itself to the role."""
    return [bed.host(name).ssh(_PROOF).strip().rpartition(": ")[2] for name in _HOSTS]


def make_lead(bed: Bed, name: str) -> None:
    """Restart the others' services until this host's has the lock."""

    def lead() -> bool:
        for other in (other for other in _HOSTS if other != name and leads(bed, other)):
            bed.host(other).ssh("sudo systemctl restart dist-test-autoscaler.service")
        return leads(bed, name)

    wait(lead, _SUCCESSION_SECONDS)
