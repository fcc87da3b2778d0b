"""Machines can be relied on as hosts: they keep what they should, forget what they should, and leave nothing behind."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from images.commands import MachineError, run
from images.machine import Machine, make_key
from images.network import Network, links_of
from images.root_tree import RootTree

_PROBE = "import socket, sys; print(socket.create_connection((sys.argv[1], 22), 5).getsockname()[0])"


@pytest.fixture(scope="module")
def network(machines_work: None) -> Iterator[Network]:
    """Beside that of the testbed, whose hosts may be up."""
    prefix = os.environ.get("TESTBED_NETWORK", "10.77.0")
    first, second, third = prefix.split(".")
    network = Network(prefix=f"{first}.{second}.{int(third) ^ 1}")
    network.ensure()
    yield network
    network.delete()


@pytest.fixture(scope="module")
def machine(network: Network) -> Iterator[Machine]:
    # An overlay's upper directory must be on a disk, and pytest's may be in memory.
    directory = Path("/var/tmp") / f"dist_test-machine-{os.getpid()}"
    make_key(directory / "key")
    machine = Machine(
        name="probe",
        address=network.subnet[9],
        directory=directory / "probe",
        network=network,
        tree=RootTree(),
        key=directory / "key",
    )
    try:
        machine.start()
        machine.wait_for_ssh()
        yield machine
    finally:  # also of one that did not come up: it would be in the way of the next run
        machine.delete()
    run("rm", "-r", directory)


def test_operator_logs_in_and_becomes_root(machine: Machine) -> None:
    assert machine.ssh("whoami; sudo whoami; hostname").split() == ["ops", "root", "probe"]


def test_failing_command_is_an_error_with_its_last_words(machine: Machine) -> None:
    with pytest.raises(MachineError, match="no such luck"):
        machine.ssh("echo no such luck >&2; exit 3")


def test_disk_outlives_a_pulled_plug(machine: Machine) -> None:
    machine.ssh("sudo touch /etc/kept && sync")
    machine.reboot()
    machine.wait_for_ssh()
    machine.ssh("test -e /etc/kept")


def test_replacement_has_an_empty_disk_and_the_same_name(machine: Machine) -> None:
    machine.ssh("sudo touch /etc/lost")
    machine.replace()
    machine.wait_for_ssh()
    assert machine.ssh("hostname; test ! -e /etc/lost").strip() == "probe"


def test_nothing_is_left_of_a_machine_without_power(machine: Machine) -> None:
    machine.power_off()
    assert not machine.is_on
    assert links_of(machine.network.bridge) == []
    machine.start()
    machine.wait_for_ssh()


def test_no_two_machines_share_a_control_group(machine: Machine) -> None:
    other = replace(
        machine, name="other", address=machine.network.subnet[10], directory=machine.directory.with_name("other")
    )
    other.start()
    other.wait_for_ssh()
    assert not _control_groups(machine) & _control_groups(other)
    other.delete()


def test_control_group_goes_with_the_power(machine: Machine) -> None:
    machine.power_off()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/machine-{int(machine.address):08x}"))
    machine.start()
    machine.wait_for_ssh()


def test_each_machine_has_an_id_of_its_own(machine: Machine) -> None:
    first = machine.ssh("cat /etc/machine-id")
    machine.replace()
    machine.wait_for_ssh()
    assert machine.ssh("cat /etc/machine-id") != first


def test_a_stranger_with_its_address_is_not_talked_to(machine: Machine, tmp_path: Path) -> None:
    with_another_key = replace(machine, directory=tmp_path)
    (tmp_path / "known_hosts").write_text(f"{machine.address} {with_another_key.host_key}\n")
    with pytest.raises(MachineError, match="Host key verification failed"):
        with_another_key.ssh("true")


def test_from_outside_one_comes_with_an_address_of_the_outside(machine: Machine) -> None:
    found = machine.network.run_outside(["python3", "-c", _PROBE, str(machine.address)])
    assert found.stdout.strip() == str(machine.network.outside_subnet[2]), found.stderr


def _control_groups(machine: Machine) -> set[str]:
    """Those that its systemd keeps its units in, in the form of /proc/PID/cgroup."""
    nspawn = (machine.directory / "pid").read_text().strip()
    children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
    lines = [line for child in children for line in Path(f"/proc/{child}/cgroup").read_text().splitlines()]
    return {line for line in lines if line.startswith("0::") or ":name=systemd:" in line}
