"""A whole local cluster to be measured: other users, cached trees, claims, leases, logs, recorded results."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import text

from dist_test.isolate.archive import Archiver
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.stat_cache import StatCache
from dist_test.local import background
from dist_test.local.configuration import Files
from dist_test.local.program import beside_python
from dist_test.local.status import ClusterStatus
from dist_test.master.audit import Auditor
from dist_test.settings import load_master_settings
from dist_test.storage.database import Database
from dist_test.storage.jobs import Jobs
from dist_test.storage.queue import Queue

POLL_SECONDS = 0.25
PROJECT = "bench"
TRUE = ("/bin/true",)


class BenchCluster:
    """A cluster that is up, and what to ask of it."""

    def __init__(self, status: ClusterStatus, state_dir: Path) -> None:
        self._environment = {"DIST_TEST_CNF": str(Files(state_dir=state_dir).service_configuration), "HOME": "/none"}
        settings = load_master_settings(self._environment)
        self.status = status
        self.state_dir = state_dir
        self.url = status.master_url
        self.database, self.queue = Database(settings.mysql), Queue(settings.beanstalk)
        self._auditor = Auditor(self.database, self.queue, grace=settings.queued_grace)
        self._digests: dict[tuple[str, ...], str] = {}
        self._number, self._counting = 0, threading.Lock()

    def close(self) -> None:
        self.queue.close()
        self.database.close()

    def submit(self, tasks: int, command: Sequence[str] = TRUE, *, owner: str = "ann", **fields: object) -> str:
        """Submit a job of equal tasks and give back its id; `fields` are those of each task."""
        with self._counting:
            self._number += 1
            job_id = f"bench{self._number}"
        base = {"isolate_hash": self.digest(command), **fields}
        listed = [{"description": f"{' '.join(command)} {number}"} | base for number in range(tasks)]
        body = {"job_id": job_id, "owner": owner, "project": PROJECT, "tasks": listed}
        requests.post(f"{self.url}/api/v1/jobs", json=body, timeout=300).raise_for_status()
        return job_id

    def run(self, tasks: int, command: Sequence[str] = TRUE) -> float:
        """Run a job of equal tasks; give back the seconds from before the submit to its last recorded result."""
        self.digest(command)
        began = time.time()
        job_id = self.submit(tasks, command)
        self.wait(job_id)
        return self.last_result(job_id) - began

    def last_result(self, job_id: str) -> float:
        """When the last attempt of a job ended, in seconds since the epoch.

        Of the rows, not of the look that found the job finished: the same clock, without the pause between looks.
        """
        last = "SELECT UNIX_TIMESTAMP(MAX(attempts.finished_at)) FROM jobs JOIN attempts USING (job_key)"
        return float(self.sql(f"{last} WHERE job_id = :job_id", job_id=job_id)[0][0])

    def wait(self, job_id: str) -> None:
        """Wait for the end of a job."""
        while self.job(job_id)["state"] != "finished":
            time.sleep(POLL_SECONDS)

    def cancel(self, job_id: str) -> None:
        """Cancel a job."""
        requests.post(f"{self.url}/api/v1/jobs/{job_id}/cancel", json={}, timeout=300).raise_for_status()

    def job(self, job_id: str) -> dict[str, Any]:
        """The job's object."""
        answer: dict[str, Any] = self.get(f"/api/v1/jobs/{job_id}").json()
        return answer

    def get(self, path: str, **arguments: str | int) -> requests.Response:
        """The master's answer. Raises requests.HTTPError when it is an error."""
        answer = requests.get(f"{self.url}{path}", params=arguments, timeout=300)
        answer.raise_for_status()
        return answer

    def walk(self, job_id: str) -> int:
        """Read all attempts of a job, page by page; give back how many there were."""
        seen, after = 0, ""
        while True:
            page = self.get(f"/api/v1/jobs/{job_id}/attempts", **({"after": after} if after else {})).json()
            seen, after = seen + len(page["attempts"]), page["next"]
            if not after:
                return seen

    def audit(self, job_id: str) -> str:
        """Audit a job; give back what was found in a line. Raises SystemExit on a breach."""
        report = self._auditor.audit(Jobs(self.database).get(job_id).job_key)
        if report.breaches:
            raise SystemExit(f"the audit of {report}: {report.breaches[:5]}")
        return str(report)

    def operate(self, *arguments: str) -> None:
        """Run `dist-test-master` to its end."""
        command = [beside_python("dist-test-master"), *arguments]
        subprocess.run(command, env=self._environment, stdout=subprocess.DEVNULL, check=True)

    def memory(self, program: str) -> list[float]:
        """What each process of a program has in memory, in MB: of the master its workers."""
        return [_resident_bytes(pid) / 1e6 for pid in self._processes(program)]

    def processor_seconds(self, program: str) -> float:
        """How long the processes of a program have run on a processor so far, summed over them."""
        return sum(_processor_seconds(pid) for pid in self._processes(program))

    def _processes(self, program: str) -> list[str]:
        pid = next(one.pid for one in self.status.programs if one.name == program)
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if program == "master" else [str(pid)]

    def sql(self, query: str, **values: object) -> list[Any]:
        """Rows, straight from the database."""
        with self.database.engine.begin() as connection:
            result = connection.execute(text(query), values)
            return list(result) if result.returns_rows else []

    def digest(self, command: Sequence[str], files: Mapping[str, str] | None = None) -> str:
        """The hash of a task of this command, with a tree of a few files; stored when first asked for."""
        if tuple(command) not in self._digests:
            self._digests[tuple(command)] = self._archive(command, files or {"a.txt": "a" * 500, "b.txt": "b" * 500})
        return self._digests[tuple(command)]

    def _archive(self, command: Sequence[str], files: Mapping[str, str]) -> str:
        tree = Path(tempfile.mkdtemp(prefix="tree-", dir=self.state_dir))
        (tree / "data").mkdir()
        for name, content in files.items():
            (tree / "data" / name).write_text(content)
        archive = Archiver(StatCache(None)).archive(tree, [f"{tree}/data/"], command=list(command))
        client = IsolateClient(self.status.isolate_url)
        client.upload(archive.blobs)
        client.close()
        return archive.digest


@contextmanager
def bench_cluster(*, slaves: int, slots: int) -> Iterator[BenchCluster]:
    """A cluster that is up for as long as it is used. `slots`: on each slave."""
    state_dir = Path(tempfile.mkdtemp(prefix="dist_test-bench-", dir="/var/tmp"))
    try:
        status = background.start(state_dir, slaves=slaves, slots=slots, dies_with_us=True)
        cluster = BenchCluster(status, state_dir)
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        background.stop(state_dir)
        shutil.rmtree(state_dir)


def _resident_bytes(pid: str) -> int:
    # proc(5): statm's second field is the resident set, in pages.
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _processor_seconds(pid: str) -> float:
    # proc(5): of stat's fields after the name in parentheses, the 12th and 13th are user and system time in ticks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def milliseconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000
