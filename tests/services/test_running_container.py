"""Tasks with a docker_image, run by podman for real, in an image of busybox alone.

The podman arguments are what this project's test machines need: runc, and limits that an unprivileged root may set.
"""

import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest

from dist_test.errors import RunError
from dist_test.running.container import ContainerProgram
from dist_test.running.processes import processes_of
from dist_test.running.records import RunRequest
from dist_test.running.runner import Runner
from dist_test.running.tree import TreeEntry
from dist_test.running.users import TaskUser, claim_user

IMAGE = "localhost/dist-test-running:1"
BUSYBOX = Path("/bin/busybox")
PODMAN = ("podman", "--runtime", "runc", "--cgroup-manager=cgroupfs")
RUN_ARGUMENTS = ("--network=none", "--pull=never", "--ulimit", "nofile=10000:10000", "--ulimit", "nproc=1000:1000")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: podman without it needs a session"),
    pytest.mark.skipif(shutil.which("podman") is None, reason="needs podman: apt install podman runc"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs an image's content: apt install busybox-static"),
]


def podman(*arguments: str, stdin: bytes | None = None) -> str:
    done = subprocess.run([*PODMAN, *arguments], input=stdin, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """An image made without any registry."""
    content = BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for name in ("sh", "sleep", "id", "cat", "env", "ls", "setsid", "touch", "pwd"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    podman("import", "-", IMAGE, stdin=content.getvalue())
    yield IMAGE
    podman("rmi", "-f", IMAGE)


@pytest.fixture
def user() -> Iterator[TaskUser]:
    with claim_user(create=True) as user:
        yield user


@pytest.fixture
def runner(user: TaskUser) -> Iterator[Runner]:
    path = Path(tempfile.mkdtemp(prefix="dist-test-"))
    path.chmod(0o711)
    program = ContainerProgram(program=PODMAN, container_args=RUN_ARGUMENTS)
    with Runner(work_dir=path, user=user, container=program, kill_grace=timedelta(seconds=0.5)) as runner:
        yield runner
    assert processes_of(user.uid) == []
    assert "dist-test-" not in podman("ps", "--all", "--format", "{{.Names}}")
    shutil.rmtree(path)


def request(script: str, image: str, **options: object) -> RunRequest:
    return RunRequest(
        entries=[TreeEntry("bin/busybox", str(BUSYBOX), 0o755)],
        isolated=b"{}",
        command=["../bin/busybox", "sh", "-c", script],
        relative_cwd="sub",
        docker_image=image,
        **options,  # type: ignore[arg-type]
    )


def test_the_command_runs_inside_with_its_tree_user_and_environment(runner: Runner, user: TaskUser, image: str) -> None:
    script = 'pwd; id -u; id -g; ls ..; touch $HOME/x $TMPDIR/x; echo "$X $DIST_TEST_ATTEMPT $HOME"; ls /; exit 7'
    result = runner.run(request(script, image, env={"X": "a b"}, attempt=2, task_id="t"))
    lines = result.stdout.path.read_text().splitlines()
    assert result.stderr.path.read_text() == ""
    assert lines[:3] == ["/isolate-dir/sub", str(user.uid), str(user.gid)]
    assert lines[3:6] == ["bin", "sub", "task.isolated"]
    assert lines[6] == "a b 2 /isolate-home"
    assert "home" not in lines[7:]
    assert (result.outcome, result.exit_status) == ("failed", 7)


def test_artifacts_of_a_container_are_archived(runner: Runner, image: str) -> None:
    result = runner.run(request("echo x > a.log", image, artifact_globs=("**/*.log",)))
    assert (result.outcome, result.notes) == ("succeeded", ())
    assert result.artifacts is not None
    with zipfile.ZipFile(result.artifacts.path) as packed:
        assert packed.namelist() == ["sub/a.log"]


def test_a_program_that_the_image_does_not_have_is_the_tasks_failure(runner: Runner, image: str) -> None:
    result = runner.run(RunRequest(entries=[], isolated=b"{}", command=["no-such-program"], docker_image=image))
    assert (result.outcome, result.exit_status) == ("failed", 127)


def test_at_the_limit_the_container_ends_with_all_its_processes(runner: Runner, user: TaskUser, image: str) -> None:
    script = "trap '' TERM; setsid sleep 1000 & echo started; while :; do sleep 1; done"
    result = runner.run(request(script, image, timeout=timedelta(seconds=1.5)))
    assert (result.outcome, result.stdout.path.read_text()) == ("timed_out", "started\n")
    assert "Killing task after 1.5 seconds" in result.stderr.path.read_text()
    assert processes_of(user.uid) == [runner.launcher_pid]
    assert podman("ps", "--all", "--quiet") == ""


def test_a_cancel_ends_the_container(runner: Runner, user: TaskUser, image: str) -> None:
    threading.Timer(0.5, runner.cancel).start()
    started = time.monotonic()
    assert runner.run(request("sleep 1000", image)).outcome == "canceled"
    assert time.monotonic() - started < 10
    assert podman("ps", "--all", "--quiet") == ""
    assert runner.run(request("exit 0", image)).outcome == "succeeded"


def test_a_container_does_not_outlive_the_launcher_of_its_engine(runner: Runner, user: TaskUser, image: str) -> None:
    def kill_launcher() -> None:
        pid = runner.engine_launcher_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    assert runner.run(request("exit 0", image)).outcome == "succeeded"
    threading.Timer(1, kill_launcher).start()
    assert runner.run(request("sleep 1000", image)).outcome == "failed"
    assert processes_of(user.uid) == [runner.launcher_pid]
    assert podman("ps", "--all", "--quiet") == ""
    assert runner.run(request("ls ..; ls $HOME", image)).stdout.path.read_text() == "bin\nsub\ntask.isolated\n"


def test_an_image_that_is_not_there_is_not_the_tasks_failure(runner: Runner) -> None:
    with pytest.raises(RunError, match="no-such-image"):
        runner.run(request("exit 0", "localhost/no-such-image:1"))


def test_a_container_without_a_program_for_it_is_refused(user: TaskUser) -> None:
    path = Path(tempfile.mkdtemp(prefix="dist-test-"))
    path.chmod(0o711)
    with Runner(work_dir=path, user=user) as runner, pytest.raises(RunError, match="no program for containers"):
        runner.run(request("exit 0", "image"))
    shutil.rmtree(path)
