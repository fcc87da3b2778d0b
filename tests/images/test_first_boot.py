"""An instance of the image, on a network whose metadata server says which slave it is, and of which cluster."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from images.commands import run, succeeds
from images.machine import Machine, make_key
from images.network import Network

from ..fakes.metadata import FakeMetadata
from ..farm import Farm, wait
from .conftest import UnpackedTree
from .door import Door

pytestmark = pytest.mark.full

NETWORK = Network(prefix="10.79.1")
TABLE = "dist_test_metadata"
REGISTERED_SECONDS = 20


@pytest.fixture
def network() -> Iterator[Network]:
    NETWORK.ensure()
    yield NETWORK
    NETWORK.delete()


@pytest.fixture
def metadata(network: Network) -> Iterator[FakeMetadata]:
    """What answers at 169.254.169.254, on that network and nowhere else."""
    server = FakeMetadata()
    server.start(str(network.gateway))
    address, port = server.url.removeprefix("http://").split(":")
    rule = f"iifname {network.bridge} ip daddr 169.254.169.254 tcp dport 80 dnat to {address}:{port}"
    chain = f"chain prerouting {{\n type nat hook prerouting priority dstnat\n {rule}\n }}"
    run("nft", "-f", "-", text=f"table ip {TABLE} {{\n {chain}\n }}\n")
    yield server
    succeeds(["nft", "delete", "table", "ip", TABLE])
    server.stop()
    assert server.violations == []


@pytest.fixture
def servers(farm: Farm, network: Network) -> Iterator[Farm]:
    """A cluster without slaves that machines of the network reach by its gateway."""
    farm.start()
    s3 = farm.seaweedfs.ports[farm.seaweedfs.port_names[0]]
    ports = (farm.mariadb.port, farm.beanstalkd.port, s3, farm.isolate.port, farm.master.port)
    with ExitStack() as doors:
        for port in ports:
            doors.enter_context(Door(str(network.gateway), port))
        yield farm


@pytest.fixture
def instance(tree: UnpackedTree, network: Network) -> Iterator[Machine]:
    """An instance of the image, not started yet."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-instance-", dir="/var/tmp"))
    machine = Machine(
        name="any-name",
        address=network.subnet[21],
        directory=directory / "machine",
        network=network,
        tree=tree,
        key=directory / "key",
    )
    make_key(machine.key)
    yield machine
    machine.delete()
    shutil.rmtree(directory)


def _settings(farm: Farm, network: Network) -> str:
    """A slave's settings as an operator would put them into an instance template."""
    sections = farm.slave_configuration.read_text().split("[slave]")
    return sections[0].replace("127.0.0.1", str(network.gateway)) + "[slave]\nslots = 2\nheartbeat_seconds = 1\n"


def test_an_instance_of_the_image_registers_within_20_seconds_of_its_boot_and_runs_a_task(
    servers: Farm, network: Network, metadata: FakeMetadata, instance: Machine
) -> None:
    metadata.attributes = {
        "created-by": "projects/123456/zones/us-central1-a/instanceGroupManagers/slaves-spot",
        "instance-template": "projects/123456/global/instanceTemplates/slave-v7",
        "dist-test-settings": _settings(servers, network),
    }
    began = time.monotonic()
    instance.start()
    wait(lambda: _row(servers) is not None, REGISTERED_SECONDS, lambda: instance.console_path.read_text()[-500:])
    print(f"registered {time.monotonic() - began:.1f} s after power on")
    assert _row(servers) == ("slave-x1f7", "5583812935284419712", "us-central1-a", "slaves-spot", "slave-v7", 2)
    _runs_tasks_that_reach_neither_settings_nor_metadata(servers, metadata)
    instance.wait_for_ssh()
    assert instance.ssh("systemctl --failed --plain --no-legend | grep -v tmpfiles-setup-dev || true") == ""
    _asks_again_after_a_reboot(servers, metadata, instance)
    instance.wait_for_ssh()
    _has_an_identity_of_its_own(instance)


def _row(farm: Farm) -> tuple[object, ...] | None:
    rows = farm.sql("SELECT slave_id, instance_id, zone, mig, template, slots FROM slaves WHERE state = 'up'")
    return tuple(rows[0]) if rows else None


def _runs_tasks_that_reach_neither_settings_nor_metadata(farm: Farm, metadata: FakeMetadata) -> None:
    asked = metadata.requests
    script = (
        "for file in /etc/dist_test/slave.cnf /run/dist_test/slave.cnf; do cat $file && exit 1; done\n"
        "python3 -c 'import socket; socket.create_connection((\"169.254.169.254\", 80), 5)' && exit 2\n"
        "exit 42"
    )
    farm.submit("first", {"isolate_hash": farm.archive(script), "description": "spy"}).raise_for_status()
    farm.wait_for_job("first")
    assert [(attempt["exit_status"], attempt["slave_id"]) for attempt in farm.attempts("first")] == [(42, "slave-x1f7")]
    assert metadata.requests == asked


def _asks_again_after_a_reboot(farm: Farm, metadata: FakeMetadata, instance: Machine) -> None:
    """What it was told is in memory only."""
    farm.sql("DELETE FROM slaves")
    asked = metadata.requests
    instance.reboot()
    wait(lambda: _row(farm) is not None, REGISTERED_SECONDS)
    assert metadata.requests == asked + 1


def _has_an_identity_of_its_own(instance: Machine) -> None:
    assert len(instance.ssh("cat /etc/machine-id").strip()) == 32
    # As this computer had put a key there; it is the last that we see of this host, for the new ones are not known.
    remade = "rm /etc/ssh/ssh_host_* && systemctl start dist-test-host-keys && ls /etc/ssh"
    assert "ssh_host_ed25519_key.pub" in instance.ssh(f"sudo sh -c '{remade}'")
