"""The simulated workloads, cut short: `check` looks at every decision; here is what three hours may cost.

The whole table is printed by tests/bench/autoscaling.py.
"""

import pytest

from tests.bench.autoscaling import SCALERS, simulate

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
