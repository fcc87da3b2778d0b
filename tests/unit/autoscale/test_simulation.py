"""The simulated workloads, cut short: `check` looks at every decision; here is what three hours may cost.

The whole table is printed by tests/bench/autoscaling.py.
"""

import itertools
import math
from dataclasses import dataclass, field

import pytest

from tests.bench.autoscaling import SCALERS, Arrival, Cluster, Ours, Scaler, our_policy, simulate

OURS = SCALERS["ours, the defaults"]


@pytest.mark.parametrize(
    ("workload", "rule", "hours"),
    [
        pytest.param("W2", "ours, the defaults", 12, id="a trickle"),
        pytest.param("W2", "ours, wait_value 0", 4, id="a trickle for which nobody waits"),
        pytest.param("W3", "ours, the defaults", 15, id="a long tail"),
    ],
)
def test_small_work_costs_little_and_all_of_it_is_done(workload: str, rule: str, hours: float) -> None:
    cost = simulate(workload, SCALERS[rule], seed=0)
    assert (cost.killed, cost.unfinished) == (0, 0)
    assert cost.machine_hours <= hours


def test_bursts_cost_less_than_by_the_originals_rule_and_take_about_as_long() -> None:
    """One seed; the bounds over many are in docs/explanation/autoscaling.md."""
    ours, original = simulate("W1", OURS, seed=5), simulate("W1", SCALERS["the original's rule"], seed=5)
    assert (ours.killed, ours.unfinished) == (0, 0)
    assert ours.machine_hours <= 0.9 * original.machine_hours
    assert ours.mean_job_s <= 1.1 * original.mean_job_s


def test_counting_tasks_and_shrinking_by_resize_kills_tasks() -> None:
    """That the simulation can see what ours must never do."""
    assert simulate("W3", SCALERS["tasks by slots, resize"], seed=0).killed > 0


@dataclass(eq=False)
class Watched:
    """A rule, and the number of machines after each of its decisions."""

    scaler: Scaler
    sizes: list[tuple[float, int]] = field(default_factory=list)

    def tick(self, cluster: Cluster) -> None:
        self.scaler.tick(cluster)
        self.sizes.append((cluster.now, len(cluster.machines)))


def watch(*arrivals: Arrival, seed: int = 0, wait_value: float = 20) -> tuple[Cluster, list[tuple[float, int]]]:
    """Three hours by our rule; the sizes that it gave the cluster, by time."""
    cluster, watched = Cluster(seed), Watched(Ours(our_policy(wait_value=wait_value)))
    cluster.run(arrivals, watched)
    return cluster, watched.sizes


@pytest.mark.parametrize("tasks", [1, 40, 600])
def test_s3_once_the_queue_is_empty_all_slaves_are_gone_in_time(tasks: int) -> None:
    """In stabilize, grace, the longest wait for a drain's answer and a minute; a hundred go by forty a minute."""
    cluster, sizes = watch((0.0, [60.0] * tasks))
    (job,) = cluster.jobs
    assert job.finished is not None
    gone = next(at for at, size in sizes if size == 0 and at > job.finished)
    assert gone - job.finished <= 300 + 90 + 120 + 60
    assert {size for at, size in sizes if at >= gone} == {0}


def test_s4_more_work_buys_in_the_very_next_decision() -> None:
    _, sizes = watch((0.0, [60.0]), (1801.0, [60.0] * 500))
    before, after = (size for at, size in sizes if at in (1800.0, 1810.0))
    assert (before, after > 10) == (0, True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("wait_value", [0, 20])
def test_s9_a_constant_load_does_not_make_it_swing(seed: int, wait_value: float) -> None:
    """After the first ten minutes of two hours; what history does not know makes the work look larger now and then."""
    steady = [(60.0 * minute, [55.0] * 20) for minute in range(120)]
    cluster, sizes = watch(*steady, seed=seed, wait_value=wait_value)
    settled = [size for at, size in sizes if 600 <= at <= 7200]
    changes = [math.copysign(1, later - size) for size, later in itertools.pairwise(settled) if later != size]
    assert sum(one != other for one, other in itertools.pairwise(changes)) <= 2
    assert all(job.finished is not None for job in cluster.jobs)
