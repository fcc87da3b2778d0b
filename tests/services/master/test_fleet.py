"""The commands about slaves: listing them, draining them and waiting for it."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from dist_test.errors import SlaveNotFound
from dist_test.master import fleet
from dist_test.master.service import Service
from dist_test.model.job import Job
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry, Task
from dist_test.storage.claims import Claim, Claims
from dist_test.storage.database import Database
from dist_test.storage.finishes import Finishes, Result
from dist_test.storage.queue import Queue
from dist_test.storage.slaves import SlaveDescription, Slaves

TASK = Task(isolate_hash="a" * 40, description="t/slow.py", timeout_seconds=60, max_retries=0)


class FakeSlave:
    """A slave that writes its row, and runs at most one task, when a test says so."""

    def __init__(self, name: str, database: Database) -> None:
        self.claims = Claims(database, slave_id=name, lease=timedelta(seconds=60))
        self._finishes = Finishes(database, slave_id=name)
        self._held: list[Claim] = []
        Slaves(database).register(
            SlaveDescription(slave_id=name, instance_id="", zone="", mig="", template="", slots=2, version="1.2")
        )

    def take(self, queue: Queue) -> None:
        """Begin to run the next entry."""
        reservation = queue.reserve(timeout_seconds=0)
        assert reservation is not None
        claim = self.claims.claim(QueueEntry.from_body(reservation.body))
        assert isinstance(claim, Claim)
        self._held.append(claim)

    def beat(self, state: str) -> str | None:
        """Write a heartbeat; give back what is wanted."""
        return self.claims.renew(self._held, busy=len(self._held), state=state, message="").want

    def finish(self) -> None:
        """Record what it runs as a success."""
        self._finishes.record([Result(claim=claim, outcome=Outcome.SUCCEEDED, task=TASK) for claim in self._held])
        self._held.clear()


class Clock:
    """Seconds that pass only while a wait sleeps; `each` says what happens meanwhile."""

    def __init__(self, each: Callable[[], object] = lambda: None) -> None:
        self.now = 0.0
        self._each = each

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self._each()
        # Far more than what passes in the database meanwhile, so that a heartbeat of just now is one after the asking.
        self.now += 30 * seconds


@pytest.fixture
def slave(slave_database: Database) -> FakeSlave:
    """A slave that has registered."""
    return FakeSlave("slave-0", slave_database)


def drain(database: Database, *names: str, clock: Clock, seconds: float = 300) -> tuple[bool, list[str]]:
    """Drain slaves; give back whether it went well, and what was said."""
    fleet.set_wanted(database, names, "drain")
    said: list[str] = []
    waiting = fleet.Drain(database, clock=clock, sleep=clock.sleep)
    return waiting.wait(names, seconds=seconds, say=said.append), said


def test_a_drain_ends_when_the_slave_says_so(master_database: Database, slave: FakeSlave) -> None:
    slave.beat("up")
    clock = Clock(lambda: slave.beat("drained"))

    assert drain(master_database, "slave-0", clock=clock) == (True, ["slave-0 is drained"])
    assert slave.beat("drained") == "drain"


def test_what_a_slave_said_before_it_was_asked_does_not_count(master_database: Database, slave: FakeSlave) -> None:
    slave.beat("drained")  # it was told to resume a moment ago, and has yet to say that it did

    is_drained, said = drain(master_database, "slave-0", clock=Clock(), seconds=0)

    assert not is_drained
    assert said == ["slave-0 is not drained: drained, 0 of 2 slots busy"]


def test_a_drain_that_takes_too_long_names_what_still_runs(
    master_database: Database, slave: FakeSlave, service: Service, queue: Queue
) -> None:
    service.submit(Job(job_id="j", tasks=(TASK,), owner="ann"))
    slave.take(queue)

    is_drained, said = drain(master_database, "slave-0", clock=Clock(lambda: slave.beat("draining")), seconds=40)

    assert not is_drained
    assert said[0] == "slave-0 is not drained: draining, 1 of 2 slots busy"
    assert said[1].startswith("  job j task 0 attempt 0 since 20")
    assert said[1].endswith(" UTC: t/slow.py")


def test_a_result_that_is_not_recorded_yet_counts_as_running(
    master_database: Database, slave: FakeSlave, service: Service, queue: Queue
) -> None:
    service.submit(Job(job_id="j", tasks=(TASK,), owner="ann"))
    slave.take(queue)

    is_drained, said = drain(master_database, "slave-0", clock=Clock(lambda: slave.beat("drained")), seconds=40)
    assert (is_drained, len(said)) == (False, 2)
    slave.finish()
    assert drain(master_database, "slave-0", clock=Clock(lambda: slave.beat("drained"))) == (
        True,
        ["slave-0 is drained"],
    )


def test_a_slave_that_fell_silent_is_gone(database: Database, master_database: Database, slave: FakeSlave) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE slaves SET heartbeat = heartbeat - INTERVAL 100 SECOND"))

    is_drained, (line,) = drain(master_database, "slave-0", clock=Clock())

    assert is_drained
    assert line.startswith("slave-0 is gone: its last heartbeat was 10")


def test_several_slaves_are_waited_for_together(
    master_database: Database, slave_database: Database, slave: FakeSlave
) -> None:
    other = FakeSlave("slave-1", slave_database)

    is_drained, said = drain(
        master_database,
        "slave-0",
        "slave-1",
        clock=Clock(lambda: (slave.beat("drained"), other.beat("drained"))),
    )

    assert (is_drained, said) == (True, ["slave-0 is drained", "slave-1 is drained"])


def test_no_slave_is_drained_when_one_is_not_known(master_database: Database, slave: FakeSlave) -> None:
    with pytest.raises(SlaveNotFound, match="no slave has the id slave-9; there is: slave-0"):
        fleet.set_wanted(master_database, ["slave-0", "slave-9"], "drain")
    assert slave.beat("up") == "run"


def test_the_near_ones_among_many_slaves_are_named(master_database: Database, slave_database: Database) -> None:
    for name in ("builder-1", "builder-2", "gpu-east-7", "gpu-east-8"):
        FakeSlave(name, slave_database)
    with pytest.raises(SlaveNotFound, match=r"there is: gpu-east-(7, gpu-east-8|8, gpu-east-7)$"):
        fleet.set_wanted(master_database, ["gpu-eats-7"], "drain")


def test_slaves_are_listed_for_people(master_database: Database, slave: FakeSlave) -> None:
    slave.beat("up")
    said: list[str] = []

    fleet.list_slaves(master_database, said.append, as_json=False)

    assert [line.split() for line in said] == [
        ["SLAVE", "STATE", "BUSY", "WANT", "HEARTBEAT", "VERSION", "MESSAGE"],
        ["slave-0", "up", "0", "of", "2", "run", "0", "s", "ago", "1.2"],
    ]
    assert said[0].index("STATE") == said[1].index("up")


def test_slaves_are_listed_for_programs_as_the_api_has_them(master_database: Database, slave: FakeSlave) -> None:
    said: list[str] = []

    fleet.list_slaves(master_database, said.append, as_json=True)

    (one,) = json.loads("\n".join(said))["slaves"]
    assert (one["slave_id"], one["state"], one["slots"], one["want"], one["is_live"]) == (
        "slave-0",
        "up",
        2,
        "run",
        True,
    )
    assert one["silent_seconds"] < 60
