"""`dist-test local`: a whole cluster comes up, stays up, and leaves nothing but its data."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import greenstalk
import pytest

from dist_test.local.program import wait_until
from dist_test.local.status import ClusterStatus, lock_holder, read_status

READY_SECONDS = 15.0
PROGRAMS = ["mariadb", "beanstalkd", "seaweedfs", "isolate", "master", "slave-0", "slave-1"]


def local(*arguments: str, state_dir: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dist_test.local", *arguments, "--state", str(state_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)


def processes_of(state_dir: Path) -> list[str]:
    """The command lines of the processes that have something to do with a state directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
        except OSError:
            continue  # it ended as we looked
        if int(process.name) != os.getpid() and os.fsencode(state_dir) in command + environment:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.fixture(scope="module")
def state_dir() -> Iterator[Path]:
    """Where the users that tasks run as may pass through, unlike pytest's own directories."""
    path = Path(tempfile.mkdtemp(prefix="dist_test-local-", dir="/var/tmp"))
    yield path
    local("down", state_dir=path)
    shutil.rmtree(path)


@pytest.fixture
def cluster(state_dir: Path) -> ClusterStatus:
    """A cluster that is up; the same one for all tests that leave it up."""
    if lock_holder(state_dir / "lock") is None:
        up = local("up", "--detach", state_dir=state_dir)
        assert up.returncode == 0, up.stderr
    return read_status(state_dir)


@pytest.fixture
def no_cluster(state_dir: Path) -> None:
    local("down", state_dir=state_dir)


def test_it_is_ready_in_time_and_says_how_to_use_it(no_cluster: None, state_dir: Path) -> None:
    started_at = time.monotonic()
    up = local("up", "--detach", state_dir=state_dir)
    assert time.monotonic() - started_at < READY_SECONDS
    assert f'eval "$(dist-test local env --state {state_dir})"' in up.stdout


def test_a_second_up_says_that_it_is_up_and_exits_1(cluster: ClusterStatus, state_dir: Path) -> None:
    second = local("up", state_dir=state_dir)
    assert second.returncode == 1
    assert f"a cluster is up in {state_dir} already" in second.stderr
    assert read_status(state_dir) == cluster


def test_status_shows_every_program_and_the_web_address(cluster: ClusterStatus, state_dir: Path) -> None:
    status = local("status", state_dir=state_dir)
    assert status.returncode == 0
    rows = [line.split() for line in status.stdout.splitlines()]
    assert [row[0] for row in rows if row[-1] == "up"] == PROGRAMS
    assert f"web: {cluster.master_url}" in status.stdout


def test_env_points_a_shell_at_the_cluster(cluster: ClusterStatus, state_dir: Path) -> None:
    lines = local("env", state_dir=state_dir).stdout
    shell = 'eval "$1"; echo "$DIST_TEST_MASTER $ISOLATE_SERVER"; grep -c "^master" "$DIST_TEST_CNF"'
    shown = subprocess.run(["sh", "-c", shell, "sh", lines], capture_output=True, text=True, check=True).stdout
    assert shown.split() == [cluster.master_url, cluster.isolate_url, "1"]


def test_the_configurations_are_for_their_owner_only(cluster: ClusterStatus, state_dir: Path) -> None:
    assert [path.stat().st_mode & 0o777 for path in sorted(state_dir.glob("*.cnf"))] == [0o600, 0o600]


def test_the_master_sees_the_slaves(cluster: ClusterStatus) -> None:
    assert wait_until(lambda: live_slaves(cluster) == {"slave-0", "slave-1"}, limit=timedelta(seconds=20))


def live_slaves(cluster: ClusterStatus) -> set[str]:
    host = cluster.master_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", "/api/v1/slaves")
    slaves = json.loads(connection.getresponse().read())["slaves"]
    connection.close()
    return {slave["slave_id"] for slave in slaves if slave["is_live"]}


def test_a_program_that_dies_is_started_again_on_its_port(cluster: ClusterStatus, state_dir: Path) -> None:
    before = next(program for program in cluster.programs if program.name == "beanstalkd")
    os.kill(before.pid, signal.SIGKILL)

    def is_back() -> bool:
        now = next(program for program in read_status(state_dir).programs if program.name == "beanstalkd")
        return now.pid != before.pid and now.state == "up" and now.address == before.address

    assert wait_until(is_back, limit=timedelta(seconds=15))
    assert "beanstalkd ended with exit status -9" in (state_dir / "log").read_text()


def test_down_leaves_no_process_and_the_next_up_keeps_the_data(cluster: ClusterStatus, state_dir: Path) -> None:
    port = int(next(program for program in cluster.programs if program.name == "beanstalkd").address.split(":")[1])
    with greenstalk.Client(("127.0.0.1", port), use="kept") as client:
        client.put("kept")

    down = local("down", state_dir=state_dir)
    assert (down.returncode, down.stdout) == (0, f"down; the data stays in {state_dir}\n")
    assert processes_of(state_dir) == []
    assert lock_holder(state_dir / "lock") is None
    assert local("status", state_dir=state_dir).returncode == 1

    local("up", "--detach", state_dir=state_dir)
    assert f"using the data in {state_dir}" in (state_dir / "log").read_text()
    with greenstalk.Client(("127.0.0.1", port), watch="kept") as client:
        assert client.reserve(timeout=0).body == "kept"


def test_nothing_survives_a_sigkill_of_the_supervisor(cluster: ClusterStatus, state_dir: Path) -> None:
    holder = lock_holder(state_dir / "lock")
    assert holder is not None
    os.kill(holder, signal.SIGKILL)
    assert wait_until(lambda: processes_of(state_dir) == [], limit=timedelta(seconds=20)), processes_of(state_dir)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_in_the_foreground_a_signal_takes_it_down(number: signal.Signals, no_cluster: None, state_dir: Path) -> None:
    command = [sys.executable, "-m", "dist_test.local", "up", "--slaves", "1", "--state", str(state_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("ready after" in line for line in process.stdout)
    process.send_signal(number)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0
    assert f"stopped; the data stays in {state_dir}" in rest
    assert processes_of(state_dir) == []


def test_down_without_a_cluster_says_so(no_cluster: None, state_dir: Path) -> None:
    down = local("down", state_dir=state_dir)
    assert (down.returncode, down.stdout) == (0, f"no cluster is up in {state_dir}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's tasks run as other users")
def test_root_is_told_when_task_users_could_not_pass_through(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    up = local("up", state_dir=tmp_path / "state")
    assert up.returncode == 1
    assert f"the users that tasks run as cannot pass through {tmp_path}" in up.stderr
