"""What a user sees of a job from the command line, on a cluster of real processes."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dist_test.local.program import beside_python

from ..farm import Farm, wait


class Laptop:
    """A shell whose clients point at a farm."""

    def __init__(self, farm: Farm, directory: Path) -> None:
        self.directory = directory
        self._environment = os.environ | {
            "DIST_TEST_CNF": str(farm.files.client_configuration),
            "NO_PROXY": "127.0.0.1",
        }

    def job_file(self, *tasks: dict[str, Any]) -> str:
        """Write a job file."""
        path = self.directory / "job.json"
        path.write_text(json.dumps({"tasks": tasks}))
        return str(path)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `dist-test` with its output in pipes."""
        return subprocess.Popen(
            [beside_python("dist-test"), *arguments],
            cwd=self.directory,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `dist-test` to its end."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def laptop(farm: Farm, tmp_path: Path) -> Laptop:
    """A laptop; use it once the farm has started."""
    return Laptop(farm, tmp_path)


def test_a_green_job_exits_0_and_a_red_one_88(farm: Farm, laptop: Laptop) -> None:
    farm.start()
    farm.slave()
    green = {"isolate_hash": farm.archive("exit 0"), "description": "green"}
    red = {"isolate_hash": farm.archive("echo oops >&2; exit 3"), "description": "red"}
    assert laptop.run("submit", laptop.job_file(green)).returncode == 0
    failed = laptop.run("submit", "--name", "nightly", "--logs", laptop.job_file(green, red))
    assert failed.returncode == 88, failed.stderr
    assert "2/2 tests complete (1 failed)" in failed.stdout
    [log] = (laptop.directory / "dist-test-results").glob("*.red.stderr")
    assert log.read_text() == "oops\n"
    assert laptop.run("watch").returncode == 88, "the last job is remembered"
    status = json.loads(laptop.run("status", "--json").stdout)
    assert (status["result"], status["name"]) == ("failed", "nightly")


def test_the_watch_of_a_canceled_job_exits_88(farm: Farm, laptop: Laptop, marks: Path) -> None:
    farm.start()
    farm.slave()
    task = {"isolate_hash": farm.archive(f"touch {marks}/started; sleep 300"), "description": "long"}
    watching = laptop.start("submit", laptop.job_file(task))
    wait(lambda: (marks / "started").exists())
    assert laptop.run("cancel", "--reason", "wrong branch").returncode == 0
    stdout, _ = watching.communicate(timeout=30)
    assert watching.returncode == 88
    assert "canceled" in stdout
    assert "wrong branch" in laptop.run("status").stdout


def test_a_watch_survives_a_restart_of_the_master(farm: Farm, laptop: Laptop, marks: Path) -> None:
    farm.start()
    farm.slave()
    script = f"touch {marks}/started; while [ ! -e {marks}/go ]; do sleep 0.1; done"
    task = {"isolate_hash": farm.archive(script), "description": "t"}
    watching = laptop.start("submit", laptop.job_file(task))
    wait(lambda: (marks / "started").exists())
    os.kill(farm.master.pid, signal.SIGTERM)
    wait(lambda: not farm.master.is_running)
    (marks / "go").touch()
    farm.master.start()
    _, stderr = watching.communicate(timeout=60)
    assert watching.returncode == 0, stderr


def test_a_task_is_rerun_locally_from_its_hash(farm: Farm, laptop: Laptop) -> None:
    farm.start()
    digest = farm.archive("echo hello; exit 3")
    rerun = laptop.run("run-isolated", "--hash", digest, "--leak-temp-dir", "--verbose")
    assert (rerun.returncode, rerun.stdout) == (3, "hello\n")
    [line] = [line for line in rerun.stderr.splitlines() if "Deliberately leaking" in line]
    leaked = Path(line.split("Deliberately leaking ")[1].removesuffix(" for later examination"))
    assert (leaked / "run.sh").read_text().startswith("#!/bin/sh")


def test_an_audit_of_what_ran_is_clean(farm: Farm, laptop: Laptop) -> None:
    farm.start()
    farm.slave()
    task = {"isolate_hash": farm.archive("[ $DIST_TEST_ATTEMPT = 1 ]"), "description": "flaky", "max_retries": 1}
    laptop.run("submit", laptop.job_file(task))
    environment = os.environ | {"DIST_TEST_CNF": str(farm.files.service_configuration)}
    command = [beside_python("dist-test-master"), "audit"]
    audit = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    # An entry that the slave is about to delete may be counted after it.
    assert "1 tasks = 1 ended + 0 running + 0 queued: clean\n" in audit.stdout
    assert audit.returncode == 0
    farm.sql("UPDATE jobs SET finished_tasks = 0")
    audit = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert audit.returncode == 1
    assert "its counters are" in audit.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: podman's image store, and task users")
def test_a_task_with_an_image_runs_in_a_real_container(farm: Farm, laptop: Laptop) -> None:
    image = _import_image(farm.directory)
    farm.start(
        slave={
            "container_program": "podman",
            "container_global_args": "--runtime runc --cgroup-manager=cgroupfs",
            "container_args": "--network=none --ulimit nofile=10000:10000 --ulimit nproc=1000:1000",
        }
    )
    farm.slave()
    script = "cat /etc/image-name; pwd; echo $DIST_TEST_ATTEMPT > made.txt; exit 3"
    task = {
        "isolate_hash": farm.archive(script),
        "description": "inside",
        "docker_image": image,
        "artifact_archive_globs": ["*.txt"],
    }
    run = laptop.run("submit", "--logs", "--artifacts", laptop.job_file(task))
    assert run.returncode == 88, run.stderr
    [attempt] = farm.attempts(farm.sql("SELECT job_id FROM jobs")[0].job_id)
    assert (attempt["outcome"], attempt["exit_status"]) == ("failed", 3), attempt["message"]
    [stdout] = (laptop.directory / "dist-test-results").glob("*.stdout")
    assert stdout.read_text() == "the image of a test\n/isolate-dir\n"
    [made] = (laptop.directory / "dist-test-results").glob("*/made.txt")
    assert made.read_text() == "0\n"


def _import_image(directory: Path) -> str:
    """An image of busybox alone, made without any registry."""
    root = directory / "image"
    for name in ("bin", "etc", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for applet in ("sh", "cat", "pwd", "echo"):
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/image-name").write_text("the image of a test\n")
    archive = directory / "image.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    name = "localhost/dist-test-acceptance:1"
    subprocess.run(["podman", "import", archive, name], check=True, capture_output=True)
    return name
