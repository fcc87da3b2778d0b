"""Figures that performance is held to, one by one, of what neither peers nor load shows.

Usage: python -m tests.bench.figures. Ends 1 when a figure misses what it is held to.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dist_test.isolate.archive import Archiver
from dist_test.isolate.cache import BlobCache, CacheLimits
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.stat_cache import StatCache
from dist_test.running.cached import entries_of
from dist_test.running.tree import write_tree
from tests.bench.cluster import BenchCluster, bench_cluster, milliseconds
from tests.bench.figure import Figure, print_machine, print_table

FAILING_TASKS, ARTIFACT_BYTES = 300, 10**6
UNCHANGED_FILES, UNCHANGED_BYTES = 20_000, 2_000
TREE_FILES, TREE_BYTES = 1_000, 8_000
JOBS, TASKS_OF_A_JOB = 1_000, 1_000  # in the history behind the home page
HOME_PAUSE_SECONDS = 6.0  # the master keeps the page for 2 s, and shows it for 5 s while it makes another
YOUNG_SECONDS = 2.5  # what is younger is hashed again: the times of files are no finer than 2 s everywhere
RUNS = 5
LIMITS = CacheLimits(max_bytes=10**10, min_free_bytes=0, max_items=10**6)


def memory(cluster: BenchCluster) -> list[Figure]:
    """What idle programs have in memory."""
    return [
        Figure(name="memory of an idle slave of 2 slots", values=cluster.memory("slave-0"), unit="MB", limit=90),
        Figure(name="memory of an idle worker of a master", values=cluster.memory("master"), unit="MB", limit=100),
    ]


def failing(cluster: BenchCluster) -> list[Figure]:
    """Tasks that fail, with logs and an artifact to store."""
    command = ("sh", "-c", "echo out; echo err >&2; exit 1")
    artifact = random.Random(1).randbytes(ARTIFACT_BYTES * 3 // 4).hex()[:ARTIFACT_BYTES]
    cluster.digest(command, {"artifact": artifact})
    rates = []
    for _ in range(3):
        began = time.time()
        job_id = cluster.submit(FAILING_TASKS, command, artifact_archive_globs=["data/*"])
        cluster.wait(job_id)
        rates.append(FAILING_TASKS / (cluster.last_result(job_id) - began))
    [(stored, lost)] = cluster.sql(
        "SELECT COUNT(artifact_bytes), SUM(logs_lost) FROM jobs JOIN attempts USING (job_key) WHERE job_id = :job_id",
        job_id=job_id,
    )
    if stored != FAILING_TASKS or lost:
        raise SystemExit(f"{stored} of {FAILING_TASKS} artifacts of {job_id} were stored, the logs of {lost} were lost")
    name = "failing tasks with logs and an artifact of 1 MB, 2 slots"
    return [Figure(name=name, values=rates, unit="tasks/s", limit=100, is_rate=True)]


def archive(directory: Path) -> list[Figure]:
    """Archiving a large tree again that has not changed."""
    tree = _tree(directory / "large", UNCHANGED_FILES, UNCHANGED_BYTES)
    time.sleep(YOUNG_SECONDS)
    cache = directory / "stat-cache"

    def once() -> None:
        Archiver(StatCache(cache)).archive(tree, [f"{tree}/"], command=["true"])

    first = milliseconds(once) / 1000
    again = [milliseconds(once) / 1000 for _ in range(RUNS)]
    return [
        Figure(name="archive of 20,000 files of 2 kB, the first time", values=[first], unit="s"),
        Figure(name="archive of the same, unchanged", values=again, unit="s", limit=1),
    ]


def fetch(cluster: BenchCluster, directory: Path) -> list[Figure]:
    """What a slave does for a task whose files it has in its cache: look them all up, and copy them."""
    tree = _tree(directory / "small", TREE_FILES, TREE_BYTES)
    archived = Archiver(StatCache(None)).archive(tree, [f"{tree}/"], command=["true"])
    client = IsolateClient(cluster.status.isolate_url)
    client.upload(archived.blobs)
    cache = BlobCache(directory / "cache", client, LIMITS)

    def once() -> None:
        with cache.checkout(archived.digest) as cached:
            write_tree(entries_of(cached), directory / "copy", cached.isolated)

    times = []
    for _ in range(2 * RUNS):
        times.append(milliseconds(once))
        shutil.rmtree(directory / "copy")
    cache.close()
    client.close()
    return [
        Figure(name="fetch of 1,000 files of 8 kB, the first time", values=times[:1], unit="ms"),
        Figure(name="fetch of the same from the cache", values=times[1:], unit="ms", limit=100),
    ]


def home(cluster: BenchCluster) -> list[Figure]:
    """The first page above a long history."""
    for statement in _history_rows():
        cluster.sql(statement)
    cluster.get("/")
    times = []
    for _ in range(RUNS):
        time.sleep(HOME_PAUSE_SECONDS)
        times.append(milliseconds(lambda: cluster.get("/")))
    kept = [milliseconds(lambda: cluster.get("/")) for _ in range(RUNS)]
    return [
        Figure(name="home page with 1,000,000 attempts stored", values=times, unit="ms", limit=50),
        Figure(name="the same again, within 2 s", values=kept, unit="ms"),
    ]


def _history_rows() -> Sequence[str]:
    """Statements that store jobs of the last weeks, all of them over."""
    total = JOBS * TASKS_OF_A_JOB
    ended = f"UTC_TIMESTAMP(6) - INTERVAL {2 * JOBS} - seq MINUTE"
    return (
        f"""
        INSERT INTO jobs (job_key, job_id, name, project, owner, fingerprint, state, period, first_tag, weight,
                          submitted_at, enqueued_at, finished_at, total_tasks, finished_tasks, succeeded_tasks,
                          total_attempts, finished_attempts, succeeded_attempts)
        SELECT 1000000 + seq, CONCAT('nightly.', seq), 'nightly', 'project', CONCAT('owner-', seq MOD 50),
               REPEAT('0', 64), 'finished', 0, 0, 1, {ended}, {ended}, {ended}, {TASKS_OF_A_JOB}, {TASKS_OF_A_JOB},
               {TASKS_OF_A_JOB}, {TASKS_OF_A_JOB}, {TASKS_OF_A_JOB}, {TASKS_OF_A_JOB}
        FROM seq_1_to_{JOBS}
        """,  # noqa: S608  # of this file's own words
        f"""
        INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries)
        SELECT 1000001 + seq DIV {TASKS_OF_A_JOB}, seq MOD {TASKS_OF_A_JOB}, REPEAT('a', 40),
               CONCAT('org.example.Test', seq MOD {TASKS_OF_A_JOB}), 900, 1
        FROM seq_0_to_{total - 1}
        """,  # noqa: S608  # of this file's own words
        f"""
        INSERT INTO attempts (job_key, task_index, attempt, has_started, slave_id, claim, charge_seconds, queued_at,
                              started_at, finished_at, outcome, exit_status, duration_seconds)
        SELECT 1000001 + seq DIV {TASKS_OF_A_JOB}, seq MOD {TASKS_OF_A_JOB}, 0, 1, CONCAT('slave-', seq MOD 200), 1, 30,
               UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), 'succeeded', 0, 30
        FROM seq_0_to_{total - 1}
        """,  # noqa: S608  # of this file's own words
        "ANALYZE TABLE jobs, tasks, attempts",
    )


def _tree(root: Path, files: int, size_bytes: int) -> Path:
    """A tree of files that all differ, a hundred a directory."""
    for number in range(files):
        directory = root / f"d{number // 100}"
        if number % 100 == 0:
            directory.mkdir(parents=True)
        (directory / f"f{number}").write_bytes(os.urandom(size_bytes))
    return root


def measure() -> bool:
    """Measure and print everything; say whether all is as it must be."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-figures-", dir="/var/tmp"))
    try:
        with bench_cluster(slaves=1, slots=2) as cluster:
            figures = memory(cluster)
            figures += failing(cluster)
            figures += archive(directory)
            figures += fetch(cluster, directory)
            figures += home(cluster)
        return print_table("Single figures", figures)
    finally:
        shutil.rmtree(directory)


def main() -> int:
    print_machine()
    return 0 if measure() else 1


if __name__ == "__main__":
    sys.exit(main())
