"""Forecasts: shared among watchers, and never asked of the database more often than every few seconds."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from dist_test.master.forecast import KEPT_SECONDS, Forecast
from dist_test.master.overview import Fleet, count_fleet
from dist_test.model.summary import Counters
from dist_test.storage.jobs import JobRecord
from dist_test.storage.slaves import Slave

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
JOB = JobRecord(
    job_key=1,
    job_id="job",
    name="",
    project="",
    owner="",
    state="running",
    max_failed_tasks=None,
    submitted_at=NOON,
    enqueued_at=NOON,
    finished_at=None,
    cancel_reason=None,
    counters=Counters.of_new_job(2),
)
SLAVE = Slave(
    slave_id="slave-1",
    instance_id="",
    zone="",
    mig="",
    template="",
    slots=4,
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


class Backend:
    """Jobs with 80 s of work left, the given slaves, and a clock."""

    def __init__(self, *slaves: Slave) -> None:
        self.slaves = list(slaves)
        self.work = {JOB.job_key: 80.0}
        self.asked = 0
        self.now = 0.0

    def expected_seconds_by_job(self) -> dict[int, float]:
        self.asked += 1
        return dict(self.work)

    def all(self) -> list[Slave]:
        return self.slaves

    def forecast(self) -> Forecast:
        # Any: of Jobs and Slaves only what is above is used.
        return Forecast(cast(Any, self), cast(Any, self), clock=lambda: self.now)


def test_the_work_left_is_shared_by_the_slots_of_live_slaves() -> None:
    backend = Backend(SLAVE, replace(SLAVE, slave_id="dead", is_live=False))

    assert backend.forecast().seconds_left(JOB) == 20.0


def test_without_a_live_slave_nobody_can_tell() -> None:
    assert Backend().forecast().seconds_left(JOB) is None


def test_a_finished_job_has_nothing_left() -> None:
    backend = Backend(SLAVE)

    assert backend.forecast().seconds_left(replace(JOB, state="finished")) is None
    assert backend.asked == 0


def test_a_forecast_is_kept_for_a_few_seconds() -> None:
    backend = Backend(SLAVE)
    forecast = backend.forecast()

    forecast.seconds_left(JOB)
    forecast.seconds_left(JOB)
    asked_at_once = backend.asked
    backend.now = KEPT_SECONDS
    forecast.seconds_left(JOB)

    assert (asked_at_once, backend.asked) == (1, 2)


def test_a_job_that_is_newer_than_the_forecast_gets_one_at_once() -> None:
    backend = Backend(SLAVE)
    forecast = backend.forecast()
    forecast.seconds_left(JOB)

    backend.work[2] = 40.0

    assert forecast.seconds_left(replace(JOB, job_key=2)) == 10.0


def test_the_queue_is_drained_when_the_work_of_all_jobs_is_done() -> None:
    backend = Backend(SLAVE)
    backend.work[2] = 40.0

    assert backend.forecast().seconds_to_drain() == 30.0
    assert Backend().forecast().seconds_to_drain() is None


def test_the_fleet_counts_who_is_alive_idle_or_draining() -> None:
    slaves = [
        SLAVE,
        replace(SLAVE, slave_id="busy", busy=1),
        replace(SLAVE, slave_id="dead", is_live=False),
        replace(SLAVE, slave_id="told to drain", want="drain"),
        replace(SLAVE, slave_id="draining", state="draining", busy=1),
        replace(SLAVE, slave_id="quarantined", state="quarantined"),
    ]

    assert count_fleet(slaves) == Fleet(live=5, idle=1, draining=2, slots=20)
