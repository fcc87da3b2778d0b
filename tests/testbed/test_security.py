"""Who reaches what in a deployed cluster: tests, strangers, and whoever looks over an operator's shoulder."""

import json
import re
import shlex
import subprocess
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.machine import Machine
from tests.testbed.bed import HOSTS, Bed
from tests.testbed.conftest import Phase
from tests.testbed.deployments import REPOSITORY, deploy_with_ansible, environment_for, program, resolve
from tests.testbed.disclosure import CommandLines, secrets_of
from tests.testbed.laptop import Laptop
from tests.testbed.live import LiveCluster, wait

pytestmark = pytest.mark.full

_TASK_VIEW = Path(__file__).with_name("task_view.py")
_PORT_SCAN = Path(__file__).with_name("port_scan.py")
_METADATA = "169.254.169.254"
_FOUND = "found.json"
_ANSIBLE = ("ansible-playbook", "-vvv", "--diff", "-i", "inventories/testbed/hosts.yml", "playbooks/site.yml")
# Another value, so that the second tool writes the files with secrets again; two slots: tasks that see each other.
_CHANGED = {"slave_slots": 2, "master_threads": 9, "isolate_threads": 9}
_UDP_PORTS = (53, 67, 111, 123, 137, 161, 323, 500, 3306, 4242, 5353, 5355, 8081, 8333, 9333, 11300, 18333)
# What lies in /etc/dist_test: secrets are root's alone, and everything else may be read.
_MODES = {
    "": "drwxr-xr-x",
    "/firewall.nft": "-rw-r--r--",
    "/task-firewall.nft": "-rw-r--r--",
    "/tls": "drwxr-xr-x",
    "/tls/certificate.pem": "-rw-r--r--",
    "/tls/key.pem": "-rw-------",
    "/master.cnf": "-rw-------",
    "/migrate.cnf": "-rw-------",
    "/prune.cnf": "-rw-------",
    "/isolate.cnf": "-rw-------",
    "/isolate-prune.cnf": "-rw-------",
    "/autoscale.cnf": "-rw-------",
    "/autoscale.toml": "-rw-r--r--",
    "/slave.cnf": "-rw-------",
    "/object_store.json": "-rw-------",
    "/mysql_accounts.json": "-rw-------",
}
# systemd's own scale, 0 to 10; below 5 it says OK. The slave's unit tells what it leaves out, and why.
_MAX_EXPOSURE = 4.0
_SERVICES = {
    "master1": (
        *("dist-test-master.service", "dist-test-isolate.service", "dist-test-autoscaler.service"),
        *("dist-test-prune.service", "dist-test-isolate-prune.service"),
    ),
    "database1": ("dist-test-backup.service",),
    "queue1": ("dist-test-object-store.service", "dist-test-object-store-s3.service"),
}


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """`printed` is what each tool said with all its details while it wrote the files with secrets."""

    live: LiveCluster
    secrets: Sequence[str]
    printed: Mapping[str, str]
    command_lines: CommandLines


@pytest.fixture(scope="module")
def deployed(bed: Bed, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    command_lines = CommandLines(secrets=secrets_of(resolve("testbed")))
    commands = {
        "pyinfra": ("pyinfra", "-y", "-vvv", "--debug", "inventories/testbed.py", "deploy.py"),
        "Ansible": (*_ANSIBLE, "-e", json.dumps(_CHANGED)),
    }
    printed = {}
    for tool, command in commands.items():
        with phase(f"{tool}, watched"), command_lines.watched():
            printed[tool] = _said_by(command)
    live = LiveCluster(bed=bed, laptop=Laptop.beside(bed, tmp_path_factory.mktemp("laptop")))
    live.become_whole()
    return Deployed(live=live, secrets=command_lines.secrets, printed=printed, command_lines=command_lines)


def _said_by(command: Sequence[str]) -> str:
    """Both streams of a tool."""
    words = [program(command[0]), *command[1:]]
    done = subprocess.run(
        words, cwd=REPOSITORY, env=environment_for("testbed"), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


@pytest.fixture
def live(deployed: Deployed) -> LiveCluster:
    return deployed.live


# --- What tests reach -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metadata_server(deployed: Deployed) -> Iterator[str]:
    """On another host, as a slave on Compute Engine would see it: what hands out credentials."""
    bed = deployed.live.bed
    server, route = bed.host("database1"), f"{_METADATA} via {bed.address('database1')}"
    server.ssh(f"sudo ip address add {_METADATA}/32 dev lo")
    server.ssh(f"sudo systemd-run --quiet --unit=metadata python3 -m http.server --bind {_METADATA} 80")
    for name in ("slave1", "slave2"):
        bed.host(name).ssh(f"sudo ip route add {route}")
    yield f"{_METADATA}:80"
    for name in ("slave1", "slave2"):
        bed.host(name).ssh(f"sudo ip route del {route}")
    server.ssh(f"sudo systemctl stop metadata; sudo ip address del {_METADATA}/32 dev lo")


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A task that runs on a slave for as long as the test looks: its process and its file are not for other tasks."""

    host: Machine
    pid: int
    path: str


@pytest.fixture
def neighbour(live: LiveCluster) -> Iterator[Neighbour]:
    digest = live.archive("echo private > private.txt; exec sleep 1717")
    job = live.submit([{"isolate_hash": digest, "description": "neighbour", "timeout": 300}])
    try:
        wait(lambda: live.running_on(job) == 1, 60)
        [attempt] = live.attempts(job.job_id)
        yield _neighbour(live.bed.host(attempt["slave_id"]))
    finally:
        live.laptop.run("cancel", job.job_id)
        job.exit_status(60)


def _neighbour(host: Machine) -> Neighbour:
    wait(lambda: bool(host.ssh("pgrep -x -f 'sleep 1717'")), 30)
    pid = int(host.ssh("pgrep -x -f 'sleep 1717'"))
    return Neighbour(host=host, pid=pid, path=f"{host.ssh(f'sudo readlink /proc/{pid}/cwd').strip()}/private.txt")


def services(bed: Bed) -> list[str]:
    """Where the cluster's services listen, for its own hosts."""
    ports = {"master1": (22, 80, 443, 4242, 8081), "database1": (22, 3306), "queue1": (22, 8333, 11300)}
    return [f"{bed.address(name)}:{port}" for name, numbers in ports.items() for port in numbers]


def probe(live: LiveCluster, metadata_server: str, neighbour: Neighbour, secrets: Sequence[str]) -> str:
    """A script that writes what tests/testbed/task_view.py sees."""
    slave = neighbour.host.ssh("systemctl show --value --property=MainPID dist-test-slave").strip()
    commands = ["sudo -n true", "su -c true", "journalctl -q -n 1 --system | grep .", "systemctl stop dist-test-slave"]
    told = {
        "addresses": [*services(live.bed), metadata_server],
        "slaves": [f"{live.bed.address(name)}:22" for name in ("slave1", "slave2")],
        "commands": commands,
        "files": [neighbour.path],
        "secrets": [secret[::-1] for secret in secrets],
        "processes": [str(neighbour.pid), slave],
    }
    look = f"python3 view.py {shlex.quote(json.dumps(told))} > {_FOUND}"
    return f"cat > view.py <<'END'\n{_TASK_VIEW.read_text()}\nEND\n{look}"


def test_slave_itself_reaches_all_that_tasks_must_not(live: LiveCluster, metadata_server: str) -> None:
    """Otherwise the next test would prove nothing."""
    slave = live.bed.host("slave1")
    for address in [*services(live.bed), metadata_server]:
        host, _, port = address.rpartition(":")
        slave.ssh(f"sudo timeout 5 bash -c '</dev/tcp/{host}/{port}'")


def test_task_reaches_no_secret_no_service_and_no_other_task(
    deployed: Deployed, metadata_server: str, neighbour: Neighbour
) -> None:
    live = deployed.live
    script = probe(live, metadata_server, neighbour, deployed.secrets)
    found = findings(live, script)
    assert neighbour.host.name in {slave for slave, _ in found}
    assert [seen for _, seen in found] == [{}] * len(found)


def findings(live: LiveCluster, script: str, **fields: object) -> list[tuple[str, object]]:
    """Slave, and what was seen, of tasks that run the script, enough of them for every slot."""
    common = {"isolate_hash": live.archive(script), "artifact_archive_globs": [_FOUND], **fields}
    job = live.submit([common | {"description": f"probe{n}"} for n in range(2 * _CHANGED["slave_slots"])])
    status = job.exit_status(300)
    slaves = {attempt["description"]: attempt["slave_id"] for attempt in live.attempts(job.job_id)}
    assert status == 0, f"{live.attempts(job.job_id)}\n{job.said}"
    assert len(list(job.results_dir.glob("*.zip"))) == len(slaves)
    # TASK.ATTEMPT.DESCRIPTION.zip
    return [
        (slaves[path.name.split(".")[2]], json.loads(zipfile.ZipFile(path).read(_FOUND)))
        for path in job.results_dir.glob("*.zip")
    ]


@pytest.fixture(scope="module")
def image(deployed: Deployed) -> str:
    """Slaves with an engine, and an image of their own Python, made without a registry."""
    settings = {
        "slave_container_engine": "podman",
        "slave_container_packages": ["podman", "netavark", "aardvark-dns", "iptables", "crun"],
        # What podman needs on a machine that is itself a container.
        "slave_container_global_args": "--runtime crun --cgroup-manager=cgroupfs",
        "slave_container_args": "--cgroups=disabled --pull=never --ulimit nofile=10000:10000 --ulimit nproc=1000:1000",
    }
    slaves = [deployed.live.bed.host(name) for name in ("slave1", "slave2")]
    for slave in slaves:
        # Its disk is an overlay, on which podman cannot make another. Before podman first runs: it remembers.
        slave.ssh("sudo mkdir -p /etc/containers")
        for path, text in _ENGINE_FILES.items():
            slave.ssh(f"echo {shlex.quote(text)} | sudo tee {path}")
    deploy_with_ansible("testbed", "-e", json.dumps(_CHANGED | settings))
    for slave in slaves:
        slave.ssh(f"cd / && sudo tar -c {_IMAGE_PATHS} | sudo podman import - {_IMAGE}")
    deployed.live.become_whole()
    return _IMAGE


_IMAGE = "localhost/probe:1"
_STORAGE = """
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""
_ENGINE_FILES = {
    "/etc/containers/storage.conf": _STORAGE,
    "/etc/containers/containers.conf": "[containers]\nkeyring = false\n",
}
_IMAGE_PATHS = "bin lib lib64 etc/ld.so.cache etc/passwd usr/bin usr/lib64 usr/lib/python3* usr/lib/*-linux-gnu"


def test_container_reaches_no_secret_no_service_and_no_other_task(
    deployed: Deployed, image: str, metadata_server: str, neighbour: Neighbour
) -> None:
    live = deployed.live
    script = probe(live, metadata_server, neighbour, deployed.secrets)
    found = findings(live, script, docker_image=image)
    assert [seen for _, seen in found] == [{}] * len(found)


# --- What strangers reach ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTS)
def test_strangers_reach_ssh_and_on_masters_the_web_server(live: LiveCluster, name: str) -> None:
    command = ["python3", str(_PORT_SCAN), str(live.bed.address(name)), "1", "65535"]
    found = live.bed.network.run_outside(command, timeout_seconds=120)
    assert json.loads(found.stdout) == ([22, 80, 443] if name == "master1" else [22]), found.stderr


def test_scan_finds_what_is_open_to_the_cluster(live: LiveCluster) -> None:
    """From the bridge, whose network is trusted; otherwise the tests above would prove nothing."""
    command = ["python3", str(_PORT_SCAN), str(live.bed.address("queue1")), "8000", "12000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [8333, 11300]


@pytest.mark.parametrize("name", HOSTS)
def test_strangers_get_no_answer_over_udp(live: LiveCluster, name: str) -> None:
    """A port without anybody behind it would be refused by ICMP; here the firewall says nothing at all."""
    found = live.bed.network.run_outside(
        ["python3", "-c", _UDP_PROBE, str(live.bed.address(name)), *map(str, _UDP_PORTS)]
    )
    assert found.stdout.split() == [], found.stderr
    assert found.returncode == 0, found.stderr


_UDP_PROBE = """
import socket, sys, time
def probe(port):
    it = socket.socket(type=socket.SOCK_DGRAM); it.settimeout(0.3); it.connect((sys.argv[1], port)); it.send(bytes(16))
    try: return it.recv(1) and port
    except TimeoutError: return None
    except ConnectionRefusedError: return port
print(*filter(None, map(probe, map(int, sys.argv[2:]))))
"""


# --- Where secrets are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["pyinfra", "Ansible"])
def test_tools_print_no_secret_however_much_they_are_asked_to_say(deployed: Deployed, tool: str) -> None:
    lines = deployed.printed[tool].splitlines()
    assert "dist_test" in deployed.printed[tool]
    assert [line for line in lines if any(secret in line for secret in deployed.secrets)] == []


def test_no_command_line_has_a_secret_during_a_deployment(deployed: Deployed) -> None:
    assert deployed.command_lines.rounds > 50
    assert deployed.command_lines.found == set()


@pytest.mark.parametrize("name", HOSTS)
def test_no_file_that_anybody_may_read_has_a_secret(deployed: Deployed, name: str) -> None:
    look = "grep -rsaoFf - --exclude-dir={proc,sys,dev} /"
    assert _as_nobody(deployed, name, look) == ""


@pytest.mark.parametrize("name", HOSTS)
def test_systemd_tells_nobody_a_secret(deployed: Deployed, name: str) -> None:
    """Environment of units, their command lines, their state."""
    assert _as_nobody(deployed, name, "cat > patterns; systemctl show --all '*' | grep -Ff patterns || true") == ""


@pytest.mark.parametrize("name", HOSTS)
def test_journal_has_no_secret(deployed: Deployed, name: str) -> None:
    look = "cat > patterns; sudo journalctl --quiet --output=export --all | grep -aFf patterns || true"
    assert _with_secrets(deployed, name, look) == ""


def _as_nobody(deployed: Deployed, name: str, look: str) -> str:
    return _with_secrets(deployed, name, f"sudo -u nobody bash -c {shlex.quote(look)} || true")


def _with_secrets(deployed: Deployed, name: str, look: str) -> str:
    """What a command prints that reads the secrets, one a line, from its standard input."""
    command = deployed.live.bed.host(name).ssh_command([f"cd $(mktemp -d) && chmod 777 . && {look}"])
    done = subprocess.run(
        command, input="\n".join(deployed.secrets), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", HOSTS)
def test_files_with_secrets_are_roots_alone(live: LiveCluster, name: str) -> None:
    listed = live.bed.host(name).ssh("sudo find /etc/dist_test -printf '%P %M %u:%g\\n'").splitlines()
    found = [line.rpartition(" ")[0].rpartition(" ") for line in listed]
    assert [line for line in listed if not line.endswith(" root:root")] == []
    assert [(path, mode) for path, _, mode in found if _MODES[f"/{path}" if path else ""] != mode] == []


@pytest.mark.parametrize(("name", "unit"), [(name, unit) for name, units in _SERVICES.items() for unit in units])
def test_unit_is_hardened(live: LiveCluster, name: str, unit: str) -> None:
    said = live.bed.host(name).ssh(f"sudo systemd-analyze security --no-pager {unit}")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert exposure, said
    assert float(exposure[1]) < _MAX_EXPOSURE, said
