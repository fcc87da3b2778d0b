"""The role slave on a kernel: which hosts its rules let tasks reach, and the users that it makes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from inventories import loader

FILES = Path(__file__).parents[2] / "roles/slave/files"
INVENTORY = """
cluster:
  vars:
    slave_blocked_networks: [192.0.2.0/24, "2001:db8:1::/64"]
    slave_task_allowed: ["192.0.2.8:5000", "[2001:db8:1::8]:5000"]
  children:
    slaves:
      hosts:
        slave1:
"""
# A host with a network card that nobody answers at: what the rules let out is never refused.
NETWORK = """
ip link set lo up
ip link add card type veth peer name far
ip link set far up
ip address add 192.0.2.1/24 dev card
ip address add 2001:db8:1::1/64 dev card nodad
ip link set card up
for address in 192.0.2.7 192.0.2.8 2001:db8:1::7 2001:db8:1::8; do
    ip neighbour add $address lladdr 02:00:00:00:00:07 dev card
done
ip route add default via 192.0.2.7
nft -f "$1"
nft -f "$1"
exec "$2" -c "$3"
"""
BECOME = """
import encodings.idna, json, os, socket  # now: later, its files may be out of reach
os.setgroups([])
os.setgid(UID)
os.setuid(UID)
"""
KNOCK = """
def knock(address, port):
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(kind) as visitor:
        visitor.settimeout(0.3)
        try:
            visitor.connect((address, port))
        except OSError as exc:
            return "let out" if isinstance(exc, TimeoutError) else exc.strerror
print(json.dumps({f"{address} {port}": knock(address, port) for address, port in DOORS}))
"""
BLOCKED = (("192.0.2.7", 3306), ("192.0.2.8", 3306), ("2001:db8:1::7", 3306), ("169.254.169.254", 80))
OPEN = (
    ("192.0.2.8", 5000),
    ("2001:db8:1::8", 5000),
    ("192.0.2.7", 53),
    ("169.254.169.254", 53),
    ("198.51.100.7", 3306),
)
FIRST_TASK_UID, LAST_TASK_UID = 8801, 8801 + 255


@pytest.fixture(scope="module", autouse=True)
def _is_possible() -> None:
    if os.geteuid() != 0 or not shutil.which("nft"):
        pytest.skip("only root with nft can load rules, so the role's rules for tasks are not tried")


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the rules, as both tools write it."""
    directory = tmp_path_factory.mktemp("inventory")
    directory.joinpath("hosts.yml").write_text(INVENTORY)
    path = directory / "task-firewall.nft"
    roles = loader.load(_with_servers(directory), is_cluster=False).hosts["slave1"].roles
    path.write_text(roles["slave"].templates["task-firewall.nft.j2"])
    return path


def _with_servers(directory: Path) -> Path:
    variables = "master_url isolate_url mysql_host mysql_password beanstalkd_host s3_endpoint_url s3_access_key"
    lines = [f"slave_{name}: unused\n" for name in (*variables.split(), "s3_secret_key")]
    (directory / "group_vars").mkdir()
    (directory / "group_vars/cluster.yml").write_text("".join(lines))
    return directory


def _run_as(uid: int, program: str, rules: Path) -> str:
    words = [str(rules), sys.executable, BECOME.replace("UID", str(uid)) + program]
    command = ["unshare", "--net", "sh", "-ec", NETWORK, "sh", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _knock(rules: Path, uid: int, doors: tuple[tuple[str, int], ...]) -> dict[str, str]:
    answers: dict[str, str] = json.loads(_run_as(uid, KNOCK.replace("DOORS", repr(doors)), rules))
    return answers


@pytest.mark.parametrize("uid", [FIRST_TASK_UID, LAST_TASK_UID], ids=["first", "last"])
def test_tasks_of_every_slot_do_not_reach_the_clusters_networks(rules: Path, uid: int) -> None:
    answers = _knock(rules, uid, BLOCKED)
    assert answers == dict.fromkeys(answers, "Connection refused")


def test_tasks_reach_name_servers_exceptions_and_everybody_else(rules: Path) -> None:
    assert set(_knock(rules, FIRST_TASK_UID, OPEN).values()) == {"let out"}


@pytest.mark.parametrize("uid", [FIRST_TASK_UID - 1, LAST_TASK_UID + 1], ids=["services", "others"])
def test_nobody_but_tasks_is_kept_from_anything(rules: Path, uid: int) -> None:
    assert set(_knock(rules, uid, BLOCKED).values()) == {"let out"}


def test_a_task_reaches_its_own_host_by_each_of_its_names(rules: Path) -> None:
    program = """
listener = socket.create_server(("", 5001))
for address in ("127.0.0.1", "192.0.2.1"):
    socket.create_connection((address, 5001), 1)
"""
    _run_as(FIRST_TASK_UID, program, rules)


class Host:
    """This computer with an /etc of its own, in which users come and go."""

    def __init__(self, directory: Path) -> None:
        (directory / "upper").mkdir()
        (directory / "work").mkdir()
        layers = f"lowerdir=/etc,upperdir={directory}/upper,workdir={directory}/work"
        self._enter = f'mount -t overlay -o {layers} overlay /etc; exec "$@"'

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        inside = ["unshare", "--mount", "sh", "-ec", self._enter, "sh", *command]
        return subprocess.run(inside, capture_output=True, text=True, check=False)

    def make_users(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run("sh", str(FILES / "task-users.sh"), *arguments)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_users_are_made_once_with_the_uids_that_are_theirs(host: Host) -> None:
    assert host.make_users("probe", "8990", "2").stdout == "changed: added probe0 probe1\n"
    assert host.make_users("probe", "8990", "2").stdout == "unchanged\n"
    assert host.run("id", "probe1").stdout == "uid=8991(probe1) gid=8991(probe1) groups=8991(probe1)\n"
    assert host.run("getent", "passwd", "probe0").stdout.endswith(":/nonexistent:/usr/sbin/nologin\n")


def test_a_look_at_the_users_changes_none(host: Host) -> None:
    assert host.make_users("--check", "probe", "8990", "2").stdout == "changed: added probe0 probe1\n"
    assert host.run("id", "probe0").returncode == 1


def test_fewer_slots_leave_the_users_that_may_run_something(host: Host) -> None:
    host.make_users("probe", "8990", "2")
    assert host.make_users("probe", "8990", "1").stdout == "unchanged\n"
    assert host.run("id", "probe1").returncode == 0


def test_a_user_with_another_uid_is_refused_by_name(host: Host) -> None:
    host.run("useradd", "--uid", "8997", "probe0")
    done = host.make_users("probe", "8990", "2")
    assert (done.returncode, done.stdout) == (1, "")
    assert "probe0 has uid 8997, not 8990" in done.stderr


def test_a_half_made_user_is_finished(host: Host) -> None:
    host.run("groupadd", "--gid", "8990", "probe0")
    assert host.make_users("probe", "8990", "1").stdout == "changed: added probe0\n"
