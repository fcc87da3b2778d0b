"""What a whole local cluster does, on the demo's own path: other users, cached trees, claims, leases, recorded results.

Usage: python tests/bench/cluster.py [--slaves 2] [--slots 1] [--runs 5]. Prints the median of each figure and what it
is held to; ends 1 when one misses it, or when an audit finds anything.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import text

from dist_test.isolate.archive import Archiver
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.stat_cache import StatCache
from dist_test.local import background
from dist_test.local.configuration import Files
from dist_test.local.status import ClusterStatus
from dist_test.master.audit import Auditor
from dist_test.settings import load_master_settings
from dist_test.storage.database import Database
from dist_test.storage.jobs import Jobs
from dist_test.storage.queue import Queue

POLL_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure: its median over the runs, and what it is held to."""

    name: str
    values: list[float]
    unit: str
    limit: float
    is_rate: bool = False

    @property
    def is_held(self) -> bool:
        median = statistics.median(self.values)
        return median >= self.limit if self.is_rate else median <= self.limit

    def __str__(self) -> str:
        median = statistics.median(self.values)
        sign = ">=" if self.is_rate else "<="
        verdict = "ok" if self.is_held else "MISSED"
        spread = f"{min(self.values):.4g} to {max(self.values):.4g}"
        return f"{self.name:58} {median:9.4g} {self.unit:8} ({spread}; held to {sign} {self.limit:g}) {verdict}"


class Bench:
    """A cluster that is up, and what to ask of it."""

    def __init__(self, status: ClusterStatus, state_dir: Path) -> None:
        environ = {"DIST_TEST_CNF": str(Files(state_dir=state_dir).service_configuration), "HOME": "/nonexistent"}
        settings = load_master_settings(environ)
        self.url = status.master_url
        self.database, self.queue = Database(settings.mysql), Queue(settings.beanstalk)
        self.auditor = Auditor(self.database, self.queue, grace=settings.queued_grace)
        self.digest = _archive(status, state_dir)
        self._number = 0

    def close(self) -> None:
        self.queue.close()
        self.database.close()

    def submit(self, tasks: int) -> tuple[str, float]:
        """Submit a job of short tasks; give back its id and the seconds until the answer."""
        self._number += 1
        job_id = f"bench{self._number}"
        listed = [{"isolate_hash": self.digest, "description": f"t{number}"} for number in range(tasks)]
        began = time.perf_counter()
        answer = requests.post(f"{self.url}/api/v1/jobs", json={"job_id": job_id, "tasks": listed}, timeout=120)
        answer.raise_for_status()
        return job_id, time.perf_counter() - began

    def run(self, tasks: int) -> tuple[str, float]:
        """Run a job to its end; give back its id and the tasks per second, from its rows."""
        job_id, _ = self.submit(tasks)
        while self.job(job_id)["state"] != "finished":
            time.sleep(POLL_SECONDS)
        query = text(
            "SELECT TIMESTAMPDIFF(MICROSECOND, jobs.submitted_at, MAX(attempts.finished_at)) / 1e6"
            " FROM jobs JOIN attempts USING (job_key) WHERE job_id = :job_id AND outcome = 'succeeded'"
        )
        with self.database.engine.connect() as connection:
            seconds = connection.execute(query, {"job_id": job_id}).scalar_one()
        return job_id, tasks / float(seconds)

    def cancel(self, job_id: str) -> None:
        requests.post(f"{self.url}/api/v1/jobs/{job_id}/cancel", json={}, timeout=120).raise_for_status()

    def job(self, job_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = requests.get(f"{self.url}/api/v1/jobs/{job_id}", timeout=60).json()
        return answer

    def audit(self, job_id: str) -> bool:
        """Audit a job, print the report, and say whether it is clean."""
        report = self.auditor.audit(Jobs(self.database).get(job_id).job_key)
        print(f"audit of {report}")
        return not report.breaches


def _archive(status: ClusterStatus, state_dir: Path) -> str:
    """A task of /bin/true with a tree of three files."""
    tree = state_dir / "bench-tree"
    (tree / "data").mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (tree / "data" / name).write_text(name * 100)
    (tree / "run.sh").write_text("#!/bin/sh\n")
    archive = Archiver(StatCache(None)).archive(tree, [f"{tree}/run.sh", f"{tree}/data/"], command=["/bin/true"])
    client = IsolateClient(status.isolate_url)
    client.upload(archive.blobs)
    client.close()
    return archive.digest


def _milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def _xargs(tasks: int) -> float:
    """The floor: no queue, no record, no output kept, no limits."""
    began = time.perf_counter()
    numbers = "\n".join(map(str, range(tasks)))
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input=numbers, text=True, check=True)
    return tasks / (time.perf_counter() - began)


def measure(bench: Bench, *, runs: int, tasks: int) -> bool:
    """Measure and print everything; say whether all is as it must be."""
    bench.run(100)
    rates, floors = [], []
    for _ in range(runs):
        job_id, rate = bench.run(tasks)
        rates.append(rate)
        floors.append(_xargs(tasks))
    is_clean = bench.audit(job_id)
    submits = []
    for _ in range(runs):
        waiting, seconds = bench.submit(10_000)
        submits.append(seconds)
        bench.cancel(waiting)
    big, _ = bench.submit(100_000)
    asked = [_milliseconds(lambda: bench.job(big)) for _ in range(max(runs, 20))]
    bench.cancel(big)
    figures = [
        Figure(
            name=f"{tasks} x /bin/true on 2 slots, from submit", values=rates, unit="tasks/s", limit=400, is_rate=True
        ),
        Figure(name="submit of 10,000 tasks", values=submits, unit="s", limit=3),
        Figure(name="status of a job of 100,000 tasks, over HTTP", values=asked, unit="ms", limit=20),
    ]
    for figure in figures:
        print(figure)
    print(f"xargs -P2, alternated with the runs: {statistics.median(floors):.4g} tasks/s")
    print(f"ours over xargs: {statistics.median(rates) / statistics.median(floors):.2f}")
    return is_clean and all(figure.is_held for figure in figures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slaves", type=int, default=2)
    parser.add_argument("--slots", type=int, default=1, help="on each slave")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=2000)
    arguments = parser.parse_args()
    state_dir = Path(tempfile.mkdtemp(prefix="dist_test-bench-", dir="/var/tmp"))
    try:
        status = background.start(state_dir, slaves=arguments.slaves, slots=arguments.slots, dies_with_us=True)
        bench = Bench(status, state_dir)
        try:
            return 0 if measure(bench, runs=arguments.runs, tasks=arguments.tasks) else 1
        finally:
            bench.close()
    finally:
        background.stop(state_dir)
        shutil.rmtree(state_dir)


if __name__ == "__main__":
    sys.exit(main())
