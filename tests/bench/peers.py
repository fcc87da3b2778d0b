"""How fast tasks go through the local cluster, and through what users would pick instead, in the same run.

Usage: python -m tests.bench.peers [--rounds 5] [--peers xargs ray ...], after ./bootstrap.sh bench. In each round every
tool runs the same tasks on two workers, in an order that moves on by one from round to round; all that stay up are up
all the time. Ends 1 when a ratio misses what it is held to.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dist_test.local.ports import free_port
from tests.bench.cluster import BenchCluster, bench_cluster
from tests.bench.figure import Figure, idle_share, number, print_machine, print_table

CHECKOUT = Path(__file__).parents[2]
PYTHON = CHECKOUT / ".venv-bench/bin/python"
PROGRAMS = "tests.bench.peer_programs"
WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The same command many times. `seconds`: what one takes by itself; None where all of it is overhead."""

    name: str
    command: tuple[str, ...]
    count: int
    seconds: float | None = None


TRUE = Workload(name="2,000 x /bin/true", command=("/bin/true",), count=2000)
SLEEP = Workload(name="300 x sleep 0.05", command=("sleep", "0.05"), count=300, seconds=0.05)
WORKLOADS = (TRUE, SLEEP)


class Tool(Protocol):
    """Runs a workload; gives back the seconds from the submit to the last result."""

    def run(self, workload: Workload) -> float: ...


class Ours:
    """The local cluster: rows, claims, leases, other users, process groups, logs."""

    def __init__(self, cluster: BenchCluster) -> None:
        self._cluster = cluster
        cluster.run(100)

    def run(self, workload: Workload) -> float:
        return self._cluster.run(workload.count, workload.command)


class Xargs:
    """The floor: no queue, no record, no limits."""

    def run(self, workload: Workload) -> float:
        program, *arguments = workload.command
        lines = f"{' '.join(arguments) or 'x'}\n" * workload.count
        command = ["xargs", f"-P{WORKERS}", "-n1", program]
        began = time.perf_counter()
        subprocess.run(command, input=lines, text=True, check=True)
        return time.perf_counter() - began


class Xdist:
    """A whole run of pytest, its start included, as users run it."""

    def run(self, workload: Workload) -> float:
        environment = {"PEER_COMMAND": json.dumps(workload.command), "PEER_COUNT": str(workload.count)}
        options = ["-q", f"-n{WORKERS}", "-c/dev/null", "--noconftest", "-p", "no:cacheprovider", "-p", "no:warnings"]
        command = [str(PYTHON), "-m", "pytest", *options, "tests/bench/peer_programs/with_xdist.py"]
        began = time.perf_counter()
        subprocess.run(
            command, cwd=CHECKOUT, env=os.environ | environment, stdout=subprocess.DEVNULL, check=True, timeout=300
        )
        return time.perf_counter() - began


class Served:
    """A peer that stays up: a program of `peer_programs`, asked line by line."""

    def __init__(self, program: str, stack: ExitStack, directory: Path) -> None:
        self._process = stack.enter_context(
            subprocess.Popen(
                [PYTHON, "-m", f"{PROGRAMS}.{program}", str(directory)],
                cwd=CHECKOUT,
                env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=(directory / f"{program}.log").open("wb"),
                text=True,
            )
        )
        stack.callback(self._close)
        if self._answer() != "ready":
            raise SystemExit(f"{program} did not start:\n{(directory / f'{program}.log').read_text()[-2000:]}")

    def run(self, workload: Workload) -> float:
        assert self._process.stdin is not None
        print(json.dumps({"command": workload.command, "count": workload.count}), file=self._process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def celery(stack: ExitStack, directory: Path) -> Served:
    """Celery with a Redis of its own."""
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    redis = stack.enter_context(
        subprocess.Popen([*command, "--dir", str(directory)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    )
    stack.callback(redis.terminate)
    os.environ["PEER_REDIS"] = f"redis://127.0.0.1:{port}/0"
    return Served("with_celery", stack, directory)


PEERS: Mapping[str, Callable[[ExitStack, Path], Tool]] = {
    "xargs": lambda _stack, _directory: Xargs(),
    "ray": lambda stack, directory: Served("with_ray", stack, directory),
    "xdist": lambda _stack, _directory: Xdist(),
    "celery": celery,
    "dask": lambda stack, directory: Served("with_dask", stack, directory),
}
ABOUT = {
    "ours": "a durable record of each task, logs of those that fail; other users, leases, time limits, retries",
    "xargs": "nothing but the processes: no queue, no record",
    "ray": "results in memory; no log, no record after the end",
    "xdist": "one run of pytest, start included; a report at the end",
    "celery": "Redis without persistence: broker and results are gone with it",
    "dask": "results in memory; no log, no record after the end",
}
SHORT_ONLY = ("celery", "dask")  # with longer tasks all are alike, and they would take minutes


@dataclass
class Times:
    """Seconds by workload and tool, one a round."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, workload: Workload, tool: str, seconds: float) -> None:
        self.seconds.setdefault((workload.name, tool), []).append(seconds)

    def of(self, workload: Workload, tool: str) -> list[float]:
        return self.seconds.get((workload.name, tool), [])

    def ratios(self, workload: Workload, peer: str) -> list[float]:
        """How many times as fast as a peer ours was, in each round."""
        return [theirs / ours for ours, theirs in zip(self.of(workload, "ours"), self.of(workload, peer), strict=True)]


def measure(tools: Mapping[str, Tool], *, rounds: int) -> Times:
    """Let all tools run everything, round after round."""
    times = Times()
    names = list(tools)
    for turn in range(rounds):
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        moved = names[turn % len(names) :] + names[: turn % len(names)]
        for workload in WORKLOADS:
            for name in moved:
                if workload is TRUE or name not in SHORT_ONLY:
                    times.add(workload, name, tools[name].run(workload))
    return times


def report(times: Times, tools: Sequence[str], versions: Mapping[str, str]) -> bool:
    """Print tables; say whether ours is as fast as it must be."""
    for workload in WORKLOADS:
        print(f"\n**{workload.name}, {WORKERS} workers, from the submit to the last result**\n")
        print("| | makespan, s | from … to | tasks/s | ours is faster, times | what it keeps |")
        print("| --- | ---: | ---: | ---: | ---: | --- |")
        for tool in tools:
            if times.of(workload, tool):
                print(_row(times, workload, tool, versions))
    return print_table("Held to", held(times, tools))


def _row(times: Times, workload: Workload, tool: str, versions: Mapping[str, str]) -> str:
    makespan = Figure(name=tool, values=times.of(workload, tool), unit="s")
    ratio = Figure(name=tool, values=times.ratios(workload, tool), unit="")
    spread = f"{number(min(makespan.values))} to {number(max(makespan.values))}"
    by = "" if tool == "ours" else f"{number(ratio.median)}"
    name = f"{tool} {versions.get(tool, '')}".strip()
    rate = number(workload.count / makespan.median)
    return f"| {name} | {number(makespan.median)} | {spread} | {rate} | {by} | {ABOUT[tool]} |"


def held(times: Times, tools: Sequence[str]) -> list[Figure]:
    """The ratios of short tasks, and the overhead of a task that takes 50 ms."""
    figures = [
        Figure(name=f"{TRUE.name}: ours over {peer}", values=ratios, unit="times", limit=limit, is_rate=True)
        for peer, limit in (("ray", 1.2), ("xargs", 0.5))
        if (ratios := times.ratios(TRUE, peer) if peer in tools else [])
    ]
    overheads = {tool: _overhead(times.of(SLEEP, tool)) for tool in tools if times.of(SLEEP, tool)}
    limits = {tool: Figure(name=tool, values=values, unit="ms").median for tool, values in overheads.items()}
    limit = min([limits["ray"]] * ("ray" in limits) + [2 * limits["xargs"]] * ("xargs" in limits), default=None)
    return figures + [
        Figure(name=f"{SLEEP.name}: overhead of a task, {tool}", values=values, unit="ms", limit=limit)
        if tool == "ours"
        else Figure(name=f"{SLEEP.name}: overhead of a task, {tool}", values=values, unit="ms")
        for tool, values in overheads.items()
    ]


def _overhead(makespans: Sequence[float]) -> list[float]:
    assert SLEEP.seconds is not None
    return [(makespan * WORKERS / SLEEP.count - SLEEP.seconds) * 1000 for makespan in makespans]


def versions() -> dict[str, str]:
    """The peers' versions by their names here."""
    packages = {"ray": "ray", "xdist": "pytest-xdist", "celery": "celery", "dask": "distributed"}
    code = f"from importlib.metadata import version as v; print(*map(v, {list(packages.values())}))"
    found = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    xargs = subprocess.run(["xargs", "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    return dict(zip(packages, found, strict=True)) | {"xargs": xargs.split()[-1]}


def compare(*, rounds: int, peers: Sequence[str]) -> bool:
    """Measure and print everything; say whether ours is as fast as it must be."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-peers-", dir="/var/tmp"))
    try:
        with ExitStack() as stack:
            cluster = stack.enter_context(bench_cluster(slaves=WORKERS, slots=1))
            tools: dict[str, Tool] = {"ours": Ours(cluster)}
            tools |= {peer: PEERS[peer](stack, directory) for peer in peers}
            print(f"With all of them up and nothing to do: processors {100 * idle_share():.0f} % idle.", flush=True)
            return report(measure(tools, rounds=rounds), list(tools), versions())
    finally:
        shutil.rmtree(directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    arguments = parser.parse_args()
    print_machine()
    return 0 if compare(rounds=arguments.rounds, peers=arguments.peers) else 1


if __name__ == "__main__":
    sys.exit(main())
