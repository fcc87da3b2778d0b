"""How slaves and what they run are put together for the first page."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dist_test.master.pages.filters import about
from dist_test.master.pages.fleet_view import MOST_RUNS_SHOWN, view_fleet
from dist_test.model.task import AttemptKey
from dist_test.storage.jobs import RunningAttempt
from dist_test.storage.slaves import Slave

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
SLAVE = Slave(
    slave_id="b",
    instance_id="",
    zone="",
    mig="",
    template="",
    slots=16,
    busy=0,
    state="up",
    want="run",
    message="",
    idle_since=NOON,
    started_at=NOON,
    heartbeat=NOON,
    version="1",
    is_live=True,
)
RUN = RunningAttempt(
    slave_id="b",
    job_id="job",
    key=AttemptKey(1, 0, 0),
    description="",
    started_at=NOON,
    running_for=timedelta(seconds=5),
)


def slave(name: str, state: str = "up", *, gone_for: timedelta | None = None) -> Slave:
    """A slave; gone when `gone_for` is given."""
    return replace(
        SLAVE, slave_id=name, state=state, is_live=gone_for is None, silent_for=gone_for or timedelta(seconds=1)
    )


def test_slaves_in_trouble_come_first() -> None:
    fleet = view_fleet([slave("a"), slave("b", "draining"), slave("c", "quarantined"), slave("d", "preempted")], [])

    assert [view.slave.slave_id for view in fleet.live] == ["c", "d", "b", "a"]


def test_slaves_that_are_gone_for_long_are_only_counted() -> None:
    ages = {"a": timedelta(hours=23), "b": timedelta(days=2), "c": timedelta(minutes=2)}

    fleet = view_fleet([slave(name, "drained", gone_for=age) for name, age in ages.items()], [])

    assert [(view.slave.slave_id, view.state) for view in fleet.gone] == [("c", "gone"), ("a", "gone")]
    assert (list(fleet.live), fleet.gone_before) == ([], 1)


def test_each_slave_has_its_own_runs_in_the_given_order() -> None:
    runs = [replace(RUN, slave_id=name, key=AttemptKey(1, task, 0)) for task, name in enumerate("baab")]

    fleet = view_fleet([slave("a"), slave("b"), slave("c")], runs)

    shown = {view.slave.slave_id: [run.key.task for run in view.runs] for view in fleet.live}
    assert shown == {"a": [1, 2], "b": [0, 3], "c": []}


def test_of_very_many_runs_each_slave_shows_the_first_and_counts_all() -> None:
    names = [f"slave-{number}" for number in range(MOST_RUNS_SHOWN)]

    fleet = view_fleet([slave(name) for name in names], [replace(RUN, slave_id=name) for name in names * 3])

    assert {(len(view.runs), view.runs_count) for view in fleet.live} == {(2, 3)}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "1 min"),
        (5999, "99 min"),
        (6000, "1 h 40 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_told_to_the_unit_that_says_enough(seconds: float, text: str) -> None:
    assert about(seconds) == text
