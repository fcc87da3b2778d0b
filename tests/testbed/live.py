"""A deployed cluster as its users and its operator see it: jobs through the front door, the audit on a master."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from images.commands import MachineError
from tests.testbed.bed import Bed
from tests.testbed.laptop import Laptop

_AUDIT = "sudo env DIST_TEST_CNF=/etc/dist_test/master.cnf /opt/dist_test/current/bin/dist-test-master audit"


@dataclass(frozen=True, kw_only=True)
class RunningJob:
    """`dist-test submit` at work: what it fetches goes to `results_dir`, what it says to `output_path`."""

    client: "subprocess.Popen[bytes]"
    job_id_path: Path
    results_dir: Path
    output_path: Path

    @property
    def job_id(self) -> str:
        """'' while the client has not made one up."""
        return self.job_id_path.read_text().strip() if self.job_id_path.exists() else ""

    def exit_status(self, seconds: float) -> int:
        """Wait for the client's end. Raises subprocess.TimeoutExpired, and ends the client."""
        try:
            return self.client.wait(seconds)
        finally:
            self.leave()

    def leave(self) -> None:
        """End the client; the job goes on."""
        self.client.kill()
        self.client.wait()

    @property
    def said(self) -> str:
        return self.output_path.read_text()


@dataclass(frozen=True, kw_only=True)
class LiveCluster:
    """Hosts with a deployed cluster on them, and a developer's computer beside it."""

    bed: Bed
    laptop: Laptop

    def archive(self, script: str) -> str:
        """Store a task that runs a shell script; its hash."""
        directory = self._directory("archive")
        program, dump = directory / "run.sh", directory.with_suffix(".json")
        program.write_text(f"#!/bin/sh\n{script}\n")
        words = [
            "--command",
            "sh run.sh",
            "--root",
            str(directory),
            "--dump-json",
            str(dump),
            str(directory / "run.sh"),
        ]
        self.laptop.run("isolate", "archive", *words)
        [digest] = json.loads(dump.read_text()).values()
        return str(digest)

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> RunningJob:
        """Let a client submit a job, wait for its end and fetch all that there is."""
        directory = self._directory("job")
        (directory / "job.json").write_text(json.dumps({"tasks": tasks}))
        results_dir, job_id_path = directory / "results", directory / "job-id"
        fetch = ["--logs", "--artifacts", "--output-dir", str(results_dir)]
        with (directory / "said").open("wb") as output:
            client = subprocess.Popen(
                self.laptop.command("submit", "--name", "live", *fetch, str(directory / "job.json")),
                env=self.laptop.environment | {"DIST_TEST_JOB_PATH": str(job_id_path)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return RunningJob(
            client=client, job_id_path=job_id_path, results_dir=results_dir, output_path=directory / "said"
        )

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """Those of a job, by task and attempt."""
        found: list[dict[str, Any]] = self.laptop.get(f"/api/v1/jobs/{job_id}/attempts?limit=1000")["attempts"]
        return found

    def running_on(self, job: RunningJob, slave: str = "") -> int:
        """How many attempts of the job run now, on this slave or on all."""
        found = self.attempts(job.job_id) if job.job_id else []
        return sum(attempt["state"] == "running" and slave in ("", attempt["slave_id"]) for attempt in found)

    def live_slaves(self) -> set[str]:
        """Names of those whose heartbeat is fresh."""
        return {slave["slave_id"] for slave in self.laptop.get("/api/v1/slaves")["slaves"] if slave["is_live"]}

    def audit(self) -> str:
        """What `dist-test-master audit` says. Raises MachineError when it finds a breach."""
        return self.bed.host("master1").ssh(_AUDIT)

    def become_whole(self) -> None:
        """Switch on what is off, and wait until master and both slaves are at work."""
        self.bed.up()
        wait(lambda: self.live_slaves() == {"slave1", "slave2"} and self._is_healthy(), 90)

    def _is_healthy(self) -> bool:
        return bool(self.laptop.get("/healthz")["status"] == "ok")

    def _directory(self, kind: str) -> Path:
        path = self.laptop.directory / f"{kind}-{time.monotonic_ns()}"
        path.mkdir()
        return path


def wait(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until it holds, looking twice a second; a master or host that does not answer counts as no."""
    deadline = time.monotonic() + seconds
    while not _holds(condition):
        assert time.monotonic() < deadline, f"it did not come true in {seconds} s"
        time.sleep(0.5)


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (requests.RequestException, MachineError):
        return False
