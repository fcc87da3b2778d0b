"""The command `service` of the role base with a real systemd, on one host that nothing was deployed to."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.commands import MachineError, run
from images.machine import Machine, make_key
from images.network import Network
from images.root_tree import RootTree
from inventories.cluster import ROOT

UNIT = "probe.service"
FILE = "/etc/probe.conf"
TEXT = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh {FILE}
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def machine(machines_work: None) -> Iterator[Machine]:
    first, second, third = os.environ.get("TESTBED_NETWORK", "10.77.0").split(".")
    # Beside that of the testbed, whose hosts may be up, and that of test_machine.
    network = Network(prefix=f"{first}.{second}.{int(third) ^ 2}")
    directory = Path("/var/tmp") / f"dist_test-service-{os.getpid()}"
    tree = RootTree()
    tree.ensure()
    make_key(directory / "key")
    network.ensure()
    machine = Machine(
        name="probe",
        address=network.subnet[9],
        directory=directory / "probe",
        network=network,
        tree=tree,
        key=directory / "key",
    )
    try:
        machine.start()
        machine.wait_for_ssh()
        yield machine
    finally:  # also of one that did not come up: it would be in the way of the next run
        machine.delete()
    network.delete()
    run("rm", "-r", directory)


@pytest.fixture
def unit(machine: Machine) -> Iterator[Machine]:
    """The machine with the command, and a unit that has never been started."""
    put(machine, "/usr/local/bin/service", (ROOT / "roles/base/files/service.py").read_text())
    put(machine, FILE, "exec sleep 1000\n")
    put(machine, f"/etc/systemd/system/{UNIT}", TEXT)
    machine.ssh("sudo chmod 755 /usr/local/bin/service")
    yield machine
    machine.ssh(
        f"sudo systemctl disable --quiet --now {UNIT}; sudo rm -rf /etc/systemd/system/{UNIT}*;"
        " sudo systemctl daemon-reload"
    )


def put(machine: Machine, path: str, text: str) -> None:
    subprocess.run(machine.ssh_command([f"sudo tee {path} >/dev/null"]), input=text, text=True, check=True)


def service(machine: Machine, *words: str) -> str:
    return machine.ssh(f"sudo /usr/local/bin/service {' '.join(words)}").strip()


def run_of(machine: Machine) -> str:
    return machine.ssh(f"systemctl show --property=InvocationID {UNIT}")


def test_a_new_unit_is_enabled_and_started_once(unit: Machine) -> None:
    assert service(unit, "--check", UNIT, FILE) == "changed: enabled, started, as it was inactive"
    assert service(unit, UNIT, FILE) == "changed: enabled, started, as it was inactive"
    assert service(unit, UNIT, FILE) == "unchanged"
    assert unit.ssh(f"systemctl is-enabled {UNIT}; systemctl is-active {UNIT}").split() == ["enabled", "active"]


def test_a_changed_file_restarts_the_unit_once(unit: Machine) -> None:
    service(unit, UNIT, FILE)
    first = run_of(unit)
    put(unit, FILE, "exec sleep 2000\n")
    assert service(unit, UNIT, FILE) == f"changed: restarted because {FILE} changed after it was started"
    assert service(unit, UNIT, FILE) == "unchanged"
    assert run_of(unit) != first
    assert unit.ssh("pgrep --full '^sleep 2000$'")


@pytest.mark.parametrize(("program", "is_restarted"), [("true", False), ("false", True)])
def test_a_unit_is_reloaded_or_else_restarted(unit: Machine, program: str, is_restarted: bool) -> None:
    put(unit, f"/etc/systemd/system/{UNIT}", TEXT.replace("[Service]", f"[Service]\nExecReload=/bin/{program}"))
    service(unit, "--reload", UNIT, FILE)
    first = run_of(unit)
    put(unit, FILE, "exec sleep 2000\n")
    assert service(unit, "--reload", UNIT, FILE) == f"changed: reloaded because {FILE} changed after it was read"
    assert service(unit, "--reload", UNIT, FILE) == "unchanged"
    assert (run_of(unit) != first) == is_restarted


def test_a_new_drop_in_restarts_the_unit_once(unit: Machine) -> None:
    service(unit, UNIT)
    unit.ssh(f"sudo mkdir /etc/systemd/system/{UNIT}.d")
    put(unit, f"/etc/systemd/system/{UNIT}.d/more.conf", "[Service]\nEnvironment=MORE=1\n")
    assert service(unit, UNIT) == "changed: restarted because its unit file or a drop-in changed"
    assert service(unit, UNIT) == "unchanged"


def test_a_drop_in_that_systemd_has_read_already_restarts_the_unit_too(unit: Machine) -> None:
    service(unit, UNIT)
    unit.ssh(f"sudo mkdir /etc/systemd/system/{UNIT}.d")
    put(unit, f"/etc/systemd/system/{UNIT}.d/more.conf", "[Service]\nEnvironment=MORE=1\n")
    unit.ssh("sudo systemctl daemon-reload")
    assert service(unit, UNIT).endswith("more.conf changed after it was started")
    assert service(unit, UNIT) == "unchanged"


def test_a_moved_link_restarts_the_unit(unit: Machine) -> None:
    unit.ssh("sudo ln --symbolic --force --no-dereference releases/1 /etc/current")
    service(unit, UNIT, "/etc/current")
    unit.ssh("sudo ln --symbolic --force --no-dereference releases/2 /etc/current")
    assert service(unit, UNIT, "/etc/current").startswith("changed: restarted because /etc/current")


def test_a_program_that_ends_is_an_error_with_what_it_said(unit: Machine) -> None:
    put(unit, FILE, "echo no database there\nexit 3\n")
    put(unit, f"/etc/systemd/system/{UNIT}", TEXT.replace("[Service]", "[Service]\nType=notify"))
    with pytest.raises(MachineError, match="no database there"):
        service(unit, UNIT, FILE)


def test_a_unit_that_is_not_installed_is_an_error(unit: Machine) -> None:
    with pytest.raises(MachineError, match=r"nothing\.service is inactive"):
        service(unit, "nothing.service")


def test_a_unit_whose_condition_does_not_hold_is_left_alone(unit: Machine) -> None:
    condition = "[Unit]\nConditionPathExists=/etc/not-there"
    put(unit, f"/etc/systemd/system/{UNIT}", TEXT.replace("[Unit]", condition))
    service(unit, UNIT)
    assert service(unit, UNIT) == "unchanged"
