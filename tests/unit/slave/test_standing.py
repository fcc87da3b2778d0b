"""When a slave takes tasks, and when it does not."""

from datetime import timedelta

import pytest

from dist_test.slave.standing import Standing


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def standing(clock: Clock) -> Standing:
    return Standing(quarantine_retry=timedelta(seconds=300), clock=clock)


def test_a_fresh_slave_is_up_and_takes_tasks(standing: Standing) -> None:
    assert (standing.state(holds=False), standing.may_reserve(), standing.message) == ("up", True, "")


def test_three_failed_setups_in_a_row_are_quarantine_with_the_reason(standing: Standing) -> None:
    for _ in range(2):
        standing.setup_failed("disk full")
    assert standing.may_reserve()
    standing.setup_failed("disk full")
    assert (standing.state(holds=False), standing.may_reserve()) == ("quarantined", False)
    assert standing.message == "3 tasks in a row could not be set up; the last one: disk full"


def test_a_success_between_failures_starts_the_count_again(standing: Standing) -> None:
    for _ in range(5):
        standing.setup_failed("x")
        standing.set_up()
    assert standing.may_reserve()


def test_in_quarantine_one_task_is_tried_every_five_minutes(standing: Standing, clock: Clock) -> None:
    for _ in range(3):
        standing.setup_failed("x")
    clock.now = 299.0
    assert not standing.may_reserve()
    clock.now = 300.0
    assert [standing.may_reserve(), standing.may_reserve()] == [True, False]
    standing.set_up()
    assert (standing.may_reserve(), standing.state(holds=True)) == (True, "up")


def test_a_drain_that_is_wanted_ends_when_it_is_no_longer(standing: Standing) -> None:
    standing.want("drain")
    assert (standing.may_reserve(), standing.state(holds=True), standing.state(holds=False)) == (
        False,
        "draining",
        "drained",
    )
    standing.want("run")
    assert (standing.may_reserve(), standing.state(holds=False)) == (True, "up")


def test_a_slave_that_leaves_does_not_come_back(standing: Standing) -> None:
    standing.leaving.set()
    standing.want("run")
    assert (standing.may_reserve(), standing.state(holds=False)) == (False, "drained")


def test_a_slave_that_is_to_be_deleted_takes_nothing(standing: Standing) -> None:
    standing.want("delete")
    assert (standing.may_reserve(), standing.state(holds=False)) == (False, "drained")


def test_a_preempted_slave_says_so_whatever_else_is_wanted(standing: Standing) -> None:
    standing.preempt()
    standing.want("run")
    assert (standing.may_reserve(), standing.state(holds=True)) == (False, "preempted")
    standing.leaving.set()
    assert standing.state(holds=False) == "preempted"
