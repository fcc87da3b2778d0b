"""Who gets the slots: shares of owners with work waiting, on real masters, slaves and a real beanstalkd.

Usage: python -m tests.bench.fair_share. All tasks take 0.2 s on 8 slots, and history knows it; a share is that of the
attempts which began in a window of 75 tasks one after the other. Ends 1 when a share is off by more than 5 %.
"""

import sys
import time
from dataclasses import dataclass

from dist_test.storage.durations import Durations, Observation
from tests.bench.cluster import PROJECT, BenchCluster, bench_cluster
from tests.bench.figure import Figure, number, print_machine, print_table

SLAVES, SLOTS = 2, 4  # a slave's slots
WINDOW = 75 * SLAVES * SLOTS
SECONDS = 0.2
TASK = ("sleep", "0.2")
FAILING = ("sh", "-c", "sleep 0.2; exit 1")
TOLERANCE = 0.05
LEAST_BESIDE_FAILURES = 0.45
SMALL, LARGE = 10, 10_000
LOOK_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Share:
    """What an owner got of the slots in a window, and what it is held to."""

    case: str
    owner: str
    attempts: int
    of: int
    due: float
    is_least: bool = False

    @property
    def value(self) -> float:
        return self.attempts / self.of

    @property
    def is_held(self) -> bool:
        if self.is_least:
            return self.value >= self.due
        return abs(self.value / self.due - 1) <= TOLERANCE

    @property
    def row(self) -> str:
        """The share as a row of a table."""
        held_to = f"≥ {self.due:.0%}" if self.is_least else f"{self.due:.0%} ± {TOLERANCE:.0%} of it"
        verdict = "" if self.is_held else " **missed**"
        return f"| {self.case} | {self.owner} | {self.attempts} of {self.of} | {self.value:.1%} | {held_to}{verdict} |"


def submit(cluster: BenchCluster, owner: str, tasks: int, command: tuple[str, ...] = TASK, **fields: object) -> str:
    """Submit a job whose tasks are all called like its owner, and known to take what they take.

    Nothing of that name has run: what a busy machine adds to the times of earlier ones does not count.
    """
    Durations(cluster.database).observe([Observation(project=PROJECT, description=owner, seconds=SECONDS)])
    return cluster.submit(tasks, command, owner=owner, description=owner, **fields)


def by_weights(cluster: BenchCluster, weight: int) -> list[Share]:
    """Two owners with work waiting, of whom the second has this weight."""
    light, heavy = f"light{weight}", f"heavy{weight}"
    cluster.operate("weight", heavy, str(weight))
    jobs = [submit(cluster, owner, 2 * WINDOW) for owner in (light, heavy)]
    begun = window(cluster, jobs)
    total, case = sum(begun.values()), f"weights 1 : {weight}"
    return [
        Share(case=case, owner=light, attempts=begun[jobs[0]], of=total, due=1 / (1 + weight)),
        Share(case=case, owner=heavy, attempts=begun[jobs[1]], of=total, due=weight / (1 + weight)),
    ]


def beside_failures(cluster: BenchCluster) -> list[Share]:
    """An owner whose tests all fail and are tried ten times again, and another."""
    failing = submit(cluster, "fails", 2 * WINDOW, FAILING, max_retries=10)
    other = submit(cluster, "other", 2 * WINDOW)
    begun = window(cluster, [failing, other])
    return [
        Share(
            case="all tests of one owner fail, 10 retries",
            owner="the other",
            attempts=begun[other],
            of=sum(begun.values()),
            due=LEAST_BESIDE_FAILURES,
            is_least=True,
        )
    ]


def window(cluster: BenchCluster, jobs: list[str]) -> dict[str, int]:
    """How many attempts of each job begin in a window, once they take turns. They are canceled then."""
    # A job has its place before it is stored and queued. What others run meanwhile, it first catches up with.
    since = 0.0
    for least in (1, SLAVES * SLOTS):
        while min(started(cluster, jobs, since=since).values()) < least:
            time.sleep(LOOK_SECONDS)
        since = time.time()
    while sum((begun := started(cluster, jobs, since=since)).values()) < WINDOW:
        time.sleep(LOOK_SECONDS)
    for job_id in jobs:
        counters = cluster.job(job_id)["counters"]
        if counters["total_tasks"] - counters["finished_tasks"] <= SLAVES * SLOTS:
            raise SystemExit(f"job {job_id} was over before its window was")
        cluster.cancel(job_id)
    return begun


def started(cluster: BenchCluster, jobs: list[str], *, since: float) -> dict[str, int]:
    """How many attempts of each job began after a time, in seconds since the epoch."""
    query = """
        SELECT COUNT(*) FROM jobs JOIN attempts USING (job_key)
        WHERE job_id = :job_id AND started_at >= FROM_UNIXTIME(:since)
    """
    return {job_id: int(cluster.sql(query, job_id=job_id, since=since)[0][0]) for job_id in jobs}


def late(cluster: BenchCluster) -> list[Figure]:
    """A small job that comes while another owner's ten thousand tasks wait."""
    cluster.wait(alone := submit(cluster, "alone", SMALL))
    large = submit(cluster, "large", LARGE)
    while sum(started(cluster, [large], since=0.0).values()) < WINDOW / 5:
        time.sleep(LOOK_SECONDS)
    cluster.wait(small := submit(cluster, "small", SMALL))
    cluster.cancel(large)
    before_first, before_last = (_begun_before(cluster, large, small, which) for which in ("MIN", "MAX"))
    last = "MAX(attempts.finished_at)"
    return [
        Figure(name="until its first task begins", values=[_until(cluster, small, "MIN(started_at)")], unit="s"),
        Figure(
            name="tasks of the large job that begin before its first",
            values=[before_first],
            unit="tasks",
            limit=2 * SLAVES * SLOTS,
        ),
        Figure(
            name="tasks of the large job that begin before its last",
            values=[before_last],
            unit="tasks",
            limit=2 * SLAVES * SLOTS + 2 * SMALL,
        ),
        Figure(name="until its last result", values=[_until(cluster, small, last)], unit="s"),
        Figure(name="the same on an idle cluster", values=[_until(cluster, alone, last)], unit="s"),
    ]


def _until(cluster: BenchCluster, job_id: str, moment: str) -> float:
    """Seconds from a job's submit to a moment of its attempts."""
    query = f"""
        SELECT UNIX_TIMESTAMP({moment}) - UNIX_TIMESTAMP(submitted_at)
        FROM jobs JOIN attempts USING (job_key) WHERE job_id = :job_id GROUP BY job_key
    """  # noqa: S608  # of this file's own words
    return float(cluster.sql(query, job_id=job_id)[0][0])


def _begun_before(cluster: BenchCluster, large: str, small: str, which: str) -> int:
    query = f"""
        SELECT COUNT(*) FROM jobs JOIN attempts USING (job_key) WHERE job_id = :large
        AND started_at > (SELECT enqueued_at FROM jobs WHERE job_id = :small)
        AND started_at < (
            SELECT {which}(started_at) FROM jobs JOIN attempts USING (job_key) WHERE job_id = :small
        )
    """  # noqa: S608  # of this file's own words
    return int(cluster.sql(query, large=large, small=small)[0][0])


def print_shares(shares: list[Share]) -> bool:
    """Print a table; say whether all shares are as they must be."""
    print("\n**Shares of 8 slots, tasks of 0.2 s**\n")
    print("| owners with work waiting | owner | attempts that began | share | held to |")
    print("| --- | --- | ---: | ---: | ---: |")
    for share in shares:
        print(share.row, flush=True)
    return all(share.is_held for share in shares)


def measure() -> bool:
    """Measure and print everything; say whether all is fair."""
    with bench_cluster(slaves=SLAVES, slots=SLOTS) as cluster:
        cluster.run(100)
        is_fair = print_shares([*by_weights(cluster, 1), *by_weights(cluster, 3), *beside_failures(cluster)])
        title = f"A job of {SMALL} tasks that comes while {number(LARGE)} of another owner wait"
        return print_table(title, late(cluster)) and is_fair


def main() -> int:
    print_machine()
    return 0 if measure() else 1


if __name__ == "__main__":
    sys.exit(main())
