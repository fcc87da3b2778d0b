"""What a cluster does under load: many slots, many clients, many watchers, and jobs up to 100,000 tasks.

Usage: python -m tests.bench.load [slots clients watchers walk growth]. Everything runs on this machine: 4 slaves of 16
slots, master, database, queue, and those who ask. Ends 1 when a figure misses what it is held to.
"""

import argparse
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import requests

from tests.bench.cluster import TRUE, BenchCluster, bench_cluster, milliseconds
from tests.bench.figure import Figure, busy_seconds, number, print_machine, print_table

SLAVES, SLOTS = 4, 16  # a slave's slots
CLIENTS, TASKS_OF_A_CLIENT = 50, 200
WATCHERS, WATCH_SECONDS, POLL_SECONDS = 200, 15.0, 2.0
RUNNING_TASKS, WALK_LIMIT_SECONDS = 20_000, 60.0
SIZES = (1_000, 10_000, 100_000)
WORST_GROWTH = 1.2  # the exponent of what grows with a job: 1 is linear


def slots(cluster: BenchCluster) -> bool:
    """64 slots on this machine: what goes through them, and what that costs."""
    figures = []
    for command, count in ((TRUE, 4000), (("sleep", "0.05"), 4000)):
        busy = busy_seconds()
        seconds = cluster.run(count, command)
        busy = busy_seconds() - busy
        name = " ".join(command)
        figures += [
            Figure(name=f"{number(count)} x {name}", values=[count / seconds], unit="tasks/s"),
            Figure(name="processor time of a task, everything included", values=[busy / count * 1000], unit="ms"),
        ]
    return print_table(f"{SLAVES} slaves of {SLOTS} slots", figures)


def clients(cluster: BenchCluster) -> bool:
    """Fifty clients that submit at the same moment."""
    cluster.digest(TRUE)
    gate = threading.Barrier(CLIENTS)
    began: list[float] = []

    def submit(client: int) -> tuple[str, float]:
        gate.wait()
        began.append(time.time())
        started = time.perf_counter()
        job_id = cluster.submit(TASKS_OF_A_CLIENT, owner=f"client{client}")
        return job_id, time.perf_counter() - started

    with ThreadPoolExecutor(CLIENTS) as threads:
        submitted = list(threads.map(submit, range(CLIENTS)))
    for job_id, _ in submitted:
        cluster.wait(job_id)
        if cluster.job(job_id)["counters"]["succeeded_tasks"] != TASKS_OF_A_CLIENT:
            raise SystemExit(f"not all tasks of {job_id} succeeded: {cluster.job(job_id)}")
    for job_id, _ in submitted[:3]:
        cluster.audit(job_id)
    seconds = time.time() - min(began)
    waits = sorted(wait for _, wait in submitted)
    total = CLIENTS * TASKS_OF_A_CLIENT
    figures = [
        Figure(name="a client's submit, median", values=[statistics.median(waits)], unit="s"),
        Figure(name="the slowest submit", values=[waits[-1]], unit="s"),
        Figure(name=f"until all {number(total)} tasks have succeeded", values=[seconds], unit="s"),
    ]
    return print_table(f"{CLIENTS} clients at once, {TASKS_OF_A_CLIENT} tasks each", figures)


def watchers(cluster: BenchCluster) -> bool:
    """Two hundred clients that watch a job while it runs, and look at its page now and then."""
    job_id = cluster.submit(5_000, ("sleep", "1"))
    until = time.monotonic() + WATCH_SECONDS
    polls: list[float] = []
    pages: list[float] = []

    def watch(watcher: int) -> None:
        time.sleep(POLL_SECONDS * watcher / WATCHERS)  # they did not all start at the same moment
        with requests.Session() as session:
            while time.monotonic() < until:
                polls.append(milliseconds(lambda: _ask(session, f"{cluster.url}/api/v1/jobs/{job_id}")))
                if watcher % 10 == 0:
                    pages.append(milliseconds(lambda: _ask(session, f"{cluster.url}/job?job_id={job_id}")))
                time.sleep(POLL_SECONDS)

    used = cluster.processor_seconds("master")
    with ThreadPoolExecutor(WATCHERS) as threads:
        list(threads.map(watch, range(WATCHERS)))
    used = (cluster.processor_seconds("master") - used) / (len(polls) + len(pages))
    is_running = cluster.job(job_id)["state"] == "running"
    cluster.cancel(job_id)
    if not is_running:
        raise SystemExit(f"job {job_id} ended before its watchers did")
    figures = [
        Figure(name=f"{what}, {share}", values=[quantile(times, share)], unit="ms")
        for what, times in ((f"one of {len(polls)} status polls", polls), (f"one of {len(pages)} pages", pages))
        for share in ("p50", "p95")
    ]
    figures.append(Figure(name="processor time of the master for one of them", values=[used * 1000], unit="ms"))
    return print_table(
        f"{WATCHERS} watchers of a running job of `sleep 1`, a poll every {POLL_SECONDS:g} s each", figures
    )


def _ask(session: requests.Session, url: str) -> None:
    session.get(url, timeout=60).raise_for_status()


def quantile(values: Sequence[float], name: str) -> float:
    """p50 or p95."""
    return statistics.quantiles(values, n=20)[{"p50": 9, "p95": 18}[name]]


def walk(cluster: BenchCluster) -> bool:
    """Reading all attempts of a job page by page, while 64 slots run it."""
    job_id = cluster.submit(RUNNING_TASKS, TRUE)
    began = time.perf_counter()
    seen = cluster.walk(job_id)
    seconds = time.perf_counter() - began
    counters = cluster.job(job_id)["counters"]
    cluster.cancel(job_id)
    if seen != RUNNING_TASKS or counters["finished_tasks"] == RUNNING_TASKS:
        raise SystemExit(f"the walk saw {seen} attempts of {job_id}, which had finished {counters}")
    figure = Figure(
        name=f"all {number(seen)} attempts, 1,000 a page", values=[seconds], unit="s", limit=WALK_LIMIT_SECONDS
    )
    return print_table("A walk through the attempts of a running job", [figure])


def growth(cluster: BenchCluster) -> bool:
    """Jobs of 1,000 to 100,000 tasks that wait: no slave takes any."""
    cluster.operate("drain", "--wait", "60", *(f"slave-{slave}" for slave in range(SLAVES)))
    rows = [_measure_size(cluster, size) for size in SIZES]
    names = list(rows[0])
    print("\n**Jobs by size**\n")
    print(f"| figure | {' | '.join(number(size) for size in SIZES)} | grows with the power of |")
    print(f"| --- | {'---: | ' * len(SIZES)}---: |")
    exponents = {name: _exponent([row[name] for row in rows]) for name in names}
    for name in names:
        missed = " **missed**" if exponents[name] > WORST_GROWTH else ""
        print(f"| {name} | {' | '.join(number(row[name]) for row in rows)} | {exponents[name]:.2f}{missed} |")
    is_held = print_table("Large jobs", _large_job_figures(cluster, rows))
    return is_held and max(exponents.values()) <= WORST_GROWTH


def _measure_size(cluster: BenchCluster, size: int) -> Mapping[str, float]:
    bytes_before = _database_bytes(cluster)
    began = time.perf_counter()
    job_id = cluster.submit(size)
    submit_s = time.perf_counter() - began
    return {
        "submit, s": submit_s,
        "bytes in the database": _database_bytes(cluster) - bytes_before,
        "status over HTTP, ms": _typical(20, lambda: cluster.job(job_id)),
        "first page of the job, ms": _typical(20, lambda: cluster.get("/job", job_id=job_id)),
        "first page, longest first, ms": _typical(10, lambda: cluster.get("/job", job_id=job_id, sort="longest")),
        "walk through all attempts, s": milliseconds(lambda: cluster.walk(job_id)) / 1000,
        "audit, s": milliseconds(lambda: cluster.audit(job_id)) / 1000,
        "cancel, s": milliseconds(lambda: cluster.cancel(job_id)) / 1000,
    }


def _typical(times: int, act: Callable[[], object]) -> float:
    act()
    return statistics.median(milliseconds(act) for _ in range(times))


def _exponent(values: Sequence[float]) -> float:
    """The power of the size with which the values grow: the slope between their logarithms."""
    points = [(math.log(size), math.log(value)) for size, value in zip(SIZES, values, strict=True)]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def _large_job_figures(cluster: BenchCluster, rows: Sequence[Mapping[str, float]]) -> list[Figure]:
    _, large, largest = rows
    return [
        Figure(name="submit of 10,000 tasks", values=[large["submit, s"]], unit="s", limit=1),
        Figure(name="submit of 100,000 tasks", values=[largest["submit, s"]], unit="s", limit=8),
        Figure(name="status of 100,000 tasks, over HTTP", values=[largest["status over HTTP, ms"]], unit="ms", limit=5),
        Figure(name="first page of 100,000 tasks", values=[largest["first page of the job, ms"]], unit="ms", limit=50),
        Figure(
            name="database, of one attempt of 100,000",
            values=[largest["bytes in the database"] / SIZES[-1]],
            unit="bytes",
        ),
        Figure(name="memory of a master's worker after all this", values=cluster.memory("master"), unit="MB"),
    ]


def _database_bytes(cluster: BenchCluster) -> float:
    cluster.sql("ANALYZE TABLE jobs, tasks, attempts, events")
    query = "SELECT SUM(data_length + index_length) FROM information_schema.tables WHERE table_schema = DATABASE()"
    return float(cluster.sql(query)[0][0])


PARTS: Mapping[str, Callable[[BenchCluster], bool]] = {
    "slots": slots,
    "clients": clients,
    "watchers": watchers,
    "walk": walk,
    "growth": growth,
}


def measure(parts: Sequence[str]) -> bool:
    """Measure and print these parts on one cluster; say whether all is as it must be."""
    with bench_cluster(slaves=SLAVES, slots=SLOTS) as cluster:
        cluster.run(500)
        verdicts = [PARTS[part](cluster) for part in PARTS if part in parts]
    return all(verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all unless given")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.parts) - set(PARTS)):
        parser.error(f"no part is called {unknown[0]}")
    print_machine()
    return 0 if measure(arguments.parts or list(PARTS)) else 1


if __name__ == "__main__":
    sys.exit(main())
