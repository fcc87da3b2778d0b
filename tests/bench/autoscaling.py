"""What different rules for the number of slaves cost, and how long jobs take: three workloads, simulated.

Usage: python tests/bench/autoscaling.py [--seeds 16] [--workload W1 ...]. Our rule is the real `decide`; the others are
written here as they are described in docs/explanation/autoscaling.md, where the printed table is kept.
"""

import argparse
import heapq
import math
import random
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dist_test_autoscale.decision import Action, Decision, Kind
from dist_test_autoscale.policy import decide
from dist_test_autoscale.settings import PolicySettings, policy_settings
from dist_test_autoscale.snapshot import (
    GroupSnapshot,
    InstanceSnapshot,
    JobSnapshot,
    QueueSnapshot,
    SlaveSnapshot,
    Snapshot,
)
from dist_test_autoscale.state import State

HORIZON_S = 3 * 3600.0
TICK_S = 10.0
MAX_SLAVES = 100
BOOT_S = (60.0, 100.0)
OVERHEAD_S = 3.0  # of each task: fetching its files, storing its results
ACKNOWLEDGE_S = 5.0  # a slave looks at what is wanted of it with each heartbeat
LEASE_S = 60.0  # after which the task of a killed slave is given to another
HISTORY_SIGMA = 0.3
UNKNOWN_SHARE = 0.05
UNKNOWN_S = 60.0
GROUP = "spot"


@dataclass(eq=False, kw_only=True)
class Job:
    """A job that arrived, and how many of its tasks are not done."""

    number: int
    arrived: float
    left: int
    finished: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """A task, with what history says of it. One without history runs first: the master's order."""

    job: Job
    seconds: float
    expected_s: float
    is_known: bool

    @property
    def order(self) -> tuple[int, bool, float]:
        return (self.job.number, self.is_known, -self.expected_s)


@dataclass(eq=False, kw_only=True)
class Machine:
    """A slave's machine from being bought to being deleted."""

    number: int
    bought: float
    started: float = 0.0
    state: str = "booting"
    want: str = "run"
    idle_since: float = 0.0
    task: Task | None = None
    task_began: float = 0.0

    @property
    def name(self) -> str:
        return f"m{self.number:05}"


Arrival = tuple[float, list[float]]
"""When a job arrives, and the seconds of its tasks."""


def bursts(chance: random.Random) -> Iterator[Arrival]:
    """W1: big jobs with pauses."""
    mu = 3.8067 - 0.9**2 / 2  # a mean of 45 s
    for at, count in ((0, 2000), (1500, 300), (5400, 2000)):
        yield at, [chance.lognormvariate(mu, 0.9) for _ in range(count)]


def trickle(chance: random.Random) -> Iterator[Arrival]:
    """W2: a few tasks every ten minutes."""
    for number in range(18):
        yield number * 600.0, [chance.uniform(40, 90) for _ in range(6)]


def long_tail(chance: random.Random) -> Iterator[Arrival]:
    """W3: jobs that a few long tasks end."""
    for at in (0.0, 3600.0):
        yield at, [30.0] * 200 + [1500.0] * 5


WORKLOADS = {"W1": bursts, "W2": trickle, "W3": long_tail}


class Scaler(Protocol):
    """A rule: looks at the cluster every ten seconds and changes its size."""

    def tick(self, cluster: "Cluster") -> None: ...


@dataclass(eq=False)
class Cluster:
    """Machines, a queue and the clock, driven by events."""

    seed: int
    now: float = 0.0
    machines: dict[str, Machine] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)
    waiting: list[tuple[tuple[int, bool, float], int, Task]] = field(default_factory=list)
    killed: int = 0
    machine_s: float = 0.0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed + 1_000_000)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def run(self, arrivals: Iterable[Arrival], scaler: Scaler) -> None:
        """Let three hours go by."""
        history = random.Random(self.seed + 2_000_000)
        for at, seconds in arrivals:
            self._at(at, lambda seconds=seconds: self._arrive(seconds, history))  # type: ignore[misc]  # mypy knows no default of a lambda
        for number in range(int(HORIZON_S / TICK_S)):
            self._at(number * TICK_S, lambda: scaler.tick(self))
        while self._events and self._events[0][0] < HORIZON_S:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.machine_s += sum(HORIZON_S - machine.bought for machine in self.machines.values())

    def running(self) -> list[Machine]:
        """The machines with a task."""
        return [machine for machine in self.machines.values() if machine.task is not None]

    def buy(self, count: int) -> None:
        """Begin to boot machines, as many as there may be."""
        for _ in range(min(count, MAX_SLAVES - len(self.machines))):
            self._count += 1
            machine = Machine(number=self._count, bought=self.now)
            self.machines[machine.name] = machine
            self._at(self.now + self.chance.uniform(*BOOT_S), lambda machine=machine: self._start(machine))  # type: ignore[misc]  # mypy knows no default of a lambda

    def delete(self, name: str) -> None:
        """Take a machine away; what runs on it is lost, and given to another once its lease is over."""
        machine = self.machines.pop(name)
        self.machine_s += self.now - machine.bought
        machine.state = "gone"
        if machine.task is not None:
            self.killed += 1
            task, machine.task = machine.task, None
            self._at(self.now + LEASE_S, lambda: self._put(task))

    def drain(self, name: str) -> None:
        """Ask a slave to take no more tasks."""
        machine = self.machines[name]
        machine.want = "drain"
        self._at(self.now + ACKNOWLEDGE_S, lambda: self._acknowledge(machine))

    def undrain(self, name: str) -> None:
        """Take that back."""
        machine = self.machines[name]
        machine.want = "run"
        self._at(self.now + ACKNOWLEDGE_S, lambda: self._acknowledge(machine))

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (float(math.ceil(when)), self._count, happen))

    def _arrive(self, seconds: list[float], history: random.Random) -> None:
        job = Job(number=len(self.jobs), arrived=self.now, left=len(seconds))
        self.jobs.append(job)
        for one in seconds:
            is_unknown = history.random() < UNKNOWN_SHARE
            expected_s = UNKNOWN_S if is_unknown else one * history.lognormvariate(0, HISTORY_SIGMA)
            self._put(Task(job=job, seconds=one, expected_s=expected_s, is_known=not is_unknown))

    def _put(self, task: Task) -> None:
        self._count += 1
        heapq.heappush(self.waiting, (task.order, self._count, task))
        idle = [machine for machine in self.machines.values() if machine.state == "up" and machine.task is None]
        if idle:
            self._take(min(idle, key=lambda machine: machine.idle_since))

    def _start(self, machine: Machine) -> None:
        if machine.state == "booting":
            machine.state, machine.started, machine.idle_since = "up", self.now, self.now
            self._take(machine)

    def _take(self, machine: Machine) -> None:
        if machine.state == "up" and machine.task is None and self.waiting:
            *_, task = heapq.heappop(self.waiting)
            machine.task, machine.task_began = task, self.now
            self._at(self.now + task.seconds + OVERHEAD_S, lambda: self._finish(machine, task))

    def _finish(self, machine: Machine, task: Task) -> None:
        if machine.task is not task:
            return  # the machine was deleted meanwhile
        machine.task, machine.idle_since = None, self.now
        task.job.left -= 1
        if task.job.left == 0:
            task.job.finished = self.now
        self._acknowledge(machine)
        self._take(machine)

    def _acknowledge(self, machine: Machine) -> None:
        if machine.state not in ("booting", "gone"):
            is_done = machine.task is None
            machine.state = "up" if machine.want == "run" else "drained" if is_done else "draining"
            self._take(machine)


@dataclass(eq=False)
class Ours:
    """The autoscaler's own decisions. What must never be decided is checked here, at every tick."""

    policy: PolicySettings
    state: State = field(default_factory=State)

    def tick(self, cluster: Cluster) -> None:
        decision = decide(self.policy, snapshot_of(cluster), self.state)
        self.state = decision.state
        check(cluster, decision)
        for action in decision.actions:
            self._apply(cluster, action)

    def _apply(self, cluster: Cluster, action: Action) -> None:
        if action.kind is Kind.GROW:
            cluster.buy(action.slaves)
        for target in action.targets:
            {Kind.UNDRAIN: cluster.undrain, Kind.DRAIN: cluster.drain, Kind.DELETE: cluster.delete}[action.kind](
                target.name
            )


def check(cluster: Cluster, decision: Decision) -> None:
    """Raise AssertionError if a busy slave would be deleted, the maximum exceeded, or a group grown and drained."""
    deleted = {target.name for action in decision.actions if action.kind is Kind.DELETE for target in action.targets}
    busy = sorted(deleted & {machine.name for machine in cluster.running()})
    assert not busy, f"{busy} run tasks and would be deleted at {cluster.now}"
    bought = sum(action.slaves for action in decision.actions)
    assert len(cluster.machines) + bought <= MAX_SLAVES, f"{bought} more at {cluster.now} exceed {MAX_SLAVES}"
    kinds = {action.kind for action in decision.actions}
    assert not kinds >= {Kind.GROW, Kind.DRAIN}, f"grown and drained at {cluster.now}"


def snapshot_of(cluster: Cluster) -> Snapshot:
    """What the autoscaler would read."""
    machines = list(cluster.machines.values())
    running = cluster.running()
    statistics_ = QueueSnapshot(
        ready=len(cluster.waiting),
        reserved=len(running),
        delayed=0,
        buried=0,
        is_paused=False,
        server_id="a",
        at=cluster.now,
    )
    instances = tuple(_instance(machine) for machine in machines)
    return Snapshot(
        now=cluster.now,
        leader=True,
        boot_s=statistics.mean(BOOT_S),
        queue=statistics_,
        jobs=tuple(_jobs(cluster, running)),
        slaves=tuple(_slave(machine, cluster.now) for machine in machines if machine.state != "booting"),
        groups=(GroupSnapshot(name=GROUP, target=len(machines), ok=True, autoscaler=False, instances=instances),),
    )


def _jobs(cluster: Cluster, running: list[Machine]) -> Iterator[JobSnapshot]:
    waiting: dict[int, list[float]] = {}
    left: dict[int, list[tuple[float, float]]] = {}
    for *_, task in cluster.waiting:
        waiting.setdefault(task.job.number, []).append(task.expected_s)
    for machine in running:
        if machine.task is not None:
            left_s = max(0.0, machine.task.expected_s - (cluster.now - machine.task_began))
            left.setdefault(machine.task.job.number, []).append((machine.task.expected_s, left_s))
    for number in sorted({*waiting, *left}):
        ready, begun = waiting.get(number, []), left.get(number, [])
        yield JobSnapshot(
            job_id=str(number),
            ready_n=len(ready),
            ready_s=sum(ready),
            running_n=len(begun),
            running_left_s=sum(left_s for _, left_s in begun),
            longest_s=max([*ready, *(expected_s for expected_s, _ in begun)]),
        )


def _slave(machine: Machine, now: float) -> SlaveSnapshot:
    is_busy = machine.task is not None
    return SlaveSnapshot(
        name=machine.name,
        instance_id=machine.name,
        slots=1,
        busy=int(is_busy),
        state=machine.state,
        want=machine.want,
        lease_held=is_busy,
        heartbeat=now,
        idle_since=None if is_busy else machine.idle_since,
        started=machine.started,
    )


def _instance(machine: Machine) -> InstanceSnapshot:
    is_made = machine.state != "booting"
    return InstanceSnapshot(
        name=machine.name,
        id=machine.name if is_made else "",
        action="NONE" if is_made else "CREATING",
        status="RUNNING" if is_made else "STAGING",
        first_seen=machine.bought,
        errors=(),
        old_template=False,
    )


@dataclass(eq=False)
class Original:
    """Ten more whenever a task waits; none at all once nothing has waited for ten minutes and nothing runs."""

    grown: float = 0.0

    def tick(self, cluster: Cluster) -> None:
        if cluster.waiting:
            cluster.buy(10)
            self.grown = cluster.now
        elif not cluster.running() and cluster.now - self.grown > 600:
            for name in list(cluster.machines):
                cluster.delete(name)


class SlavePerTask:
    """As many slaves as tasks; a slave that was idle for ten minutes ends itself."""

    def tick(self, cluster: Cluster) -> None:
        cluster.buy(len(cluster.waiting) + len(cluster.running()) - len(cluster.machines))
        for machine in list(cluster.machines.values()):
            if machine.state == "up" and machine.task is None and cluster.now - machine.idle_since > 600:
                cluster.delete(machine.name)


@dataclass(eq=False)
class TasksPerSlot:
    """Unfinished tasks by slots, lowered to the most of the last five minutes by a resize, which picks any machine."""

    wanted: list[tuple[float, int]] = field(default_factory=list)

    def tick(self, cluster: Cluster) -> None:
        tasks = len(cluster.waiting) + len(cluster.running())
        self.wanted = [(at, count) for at, count in self.wanted if at > cluster.now - 300] + [(cluster.now, tasks)]
        cluster.buy(tasks - len(cluster.machines))
        surplus = len(cluster.machines) - max(count for _, count in self.wanted)
        for name in cluster.chance.sample(sorted(cluster.machines), max(0, surplus)):
            cluster.delete(name)


def our_policy(*, wait_value: float = 20, drained_per_min: int = 40) -> PolicySettings:
    """The defaults, but for how dear waiting is and how fast slaves are given back."""
    tables = {"size": {"wait_value": wait_value, "max_total": MAX_SLAVES}, "in": {"max_per_min": drained_per_min}}
    return policy_settings(tables | {"group": [{"name": GROUP, "max": MAX_SLAVES}]}, where="")


SCALERS: dict[str, Callable[[], Scaler]] = {
    "the original's rule": Original,
    "tasks by slots, resize": TasksPerSlot,
    "a slave a task, idle out": SlavePerTask,
    "ours, wait_value 0": lambda: Ours(our_policy(wait_value=0)),
    "ours, the defaults": lambda: Ours(our_policy()),
    "ours, in.max_per_min 20": lambda: Ours(our_policy(drained_per_min=20)),
}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What three hours were like. Jobs that did not end count in `mean_job_s` as if they had ended with the hours."""

    machine_hours: float
    mean_job_s: float
    killed: float
    unfinished: float


def simulate(workload: str, make: Callable[[], Scaler], seed: int) -> Cost:
    """Three hours of a workload under a rule."""
    cluster = Cluster(seed)
    cluster.run(WORKLOADS[workload](random.Random(seed)), make())
    ends = [(HORIZON_S if job.finished is None else job.finished) - job.arrived for job in cluster.jobs]
    return Cost(
        machine_hours=cluster.machine_s / 3600,
        mean_job_s=statistics.mean(ends),
        killed=cluster.killed,
        unfinished=sum(job.finished is None for job in cluster.jobs),
    )


def mean_cost(workload: str, scaler: str, seeds: int) -> Cost:
    """The mean over the first `seeds` seeds."""
    costs = [simulate(workload, SCALERS[scaler], seed) for seed in range(seeds)]
    names = ("machine_hours", "mean_job_s", "killed", "unfinished")
    return Cost(**{name: statistics.mean(getattr(cost, name) for cost in costs) for name in names})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16, help="runs of each, of which the mean is printed")
    parser.add_argument("--workload", choices=WORKLOADS, nargs="+", default=list(WORKLOADS))
    arguments = parser.parse_args()
    print("| workload | rule | machine-hours | mean job, s | busy slaves killed | jobs unfinished |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for workload in arguments.workload:
        for scaler in SCALERS:
            cost = mean_cost(workload, scaler, arguments.seeds)
            figures = f"{cost.machine_hours:.1f} | {cost.mean_job_s:.0f} | {cost.killed:g} | {cost.unfinished:g}"
            print(f"| {workload} | {scaler} | {figures} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
