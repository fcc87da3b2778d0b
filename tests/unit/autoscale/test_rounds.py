"""A thousand rounds in a world of its own, where a third of all calls fail: nothing is lost, nothing stays behind."""

import random
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dist_test.errors import DatabaseUnavailable, NotLeader, QueueUnavailable
from dist_test.storage.autoscaling import Ask, AuditRecord, ClusterReading, JobWork, Pin, SlaveRow, Term
from dist_test.storage.tube import TubeReading
from dist_test_autoscale.breaker import GuardedFleet
from dist_test_autoscale.clock import DatabaseClock
from dist_test_autoscale.decision import Hold
from dist_test_autoscale.execution import Executor
from dist_test_autoscale.listings import Listings
from dist_test_autoscale.metrics import Metrics
from dist_test_autoscale.service import Service, Tick
from dist_test_autoscale.settings import load_settings
from dist_test_autoscale.sightings import Sightings
from dist_test_autoscale.signals import Signals
from tests.fakes.clock import FakeClock
from tests.fakes.fleet import WorldFleet
from tests.fakes.instance_groups import Group, Machine, NoDriver, Times, World

INTERVAL_S = 10.0
TASK_S = 55.0
ARRIVALS = {5: 40, 400: 25}  # tasks by round
GROUPS = {"spot-b": 8, "spot-c": 30}  # with the room in their zones
TOML = """
[autoscale]
project = "our-project"
credentials = "anonymous"
[autoscale.in]
stabilize_s = 60
""" + "".join(
    f'[[autoscale.group]]\nname = "{name}"\nzone = "{name[-1]}"\npriority = {place}\nmax = 20\n'
    for place, name in enumerate(GROUPS)
)


@dataclass(kw_only=True)
class _Slave:
    """A slave with one slot. `until`: when its task ends; 0.0 when it has none."""

    row: SlaveRow
    until: float = 0.0


@dataclass(eq=False, kw_only=True)
class Everything:
    """Database, queue and slaves, in memory; a part of all calls to them fails, half of those after they did it."""

    clock: FakeClock
    world: World
    error_rate: float
    waiting: int = 0
    done: int = 0
    epoch: int = 1
    state: str | None = None
    records: list[AuditRecord] = field(default_factory=list)
    slaves: dict[tuple[str, str], _Slave] = field(default_factory=dict)
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    is_database_away: bool = False
    keeps_lock: bool = False

    @contextmanager
    def failing(self, error: type[Exception]) -> Iterator[None]:
        if self.is_database_away and error is DatabaseUnavailable:
            raise error("the database is away")
        fails = self.dice.random() < self.error_rate
        fails_late = self.dice.random() < 0.5
        if fails and not fails_late:
            raise error("the fake was told to fail")
        yield
        if fails:
            raise error("the fake was told to fail")

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now(), UTC)

    def live(self) -> None:
        """What machines and slaves do in one interval."""
        self.world.advance()
        running = {(one.name, one.id) for one in self._machines() if one.status == "RUNNING"}
        for key in self.slaves.keys() - running:
            if self.slaves.pop(key).until:
                self.waiting += 1  # its lease runs out
        for name, instance_id in running:
            self._work(self.slaves.setdefault((name, instance_id), self._new_slave(name, instance_id)))

    def _machines(self) -> Iterator[Machine]:
        return (machine for group in self.world.groups.values() for machine in group.machines)

    def _work(self, slave: _Slave) -> None:
        if slave.until and slave.until <= self.clock.now():
            slave.until, self.done = 0.0, self.done + 1
        is_free = slave.row.want == "run" and not slave.until
        if is_free and self.waiting:
            slave.until, self.waiting = self.clock.now() + TASK_S, self.waiting - 1
        busy = int(slave.until > 0)
        state = "up" if slave.row.want == "run" else "draining" if busy else "drained"
        idle_since = None if busy else slave.row.idle_since or self.now
        slave.row = replace(slave.row, busy=busy, has_lease=bool(busy), state=state, idle_since=idle_since)
        if not self.is_database_away:
            slave.row = replace(slave.row, heartbeat=self.now)

    def _new_slave(self, name: str, instance_id: str) -> _Slave:
        row = SlaveRow(
            slave_id=name, instance_id=instance_id, slots=1, busy=0, state="up", want="run", idle_since=self.now,
            started_at=self.now, heartbeat=self.now, has_lease=False,
        )  # fmt: skip
        return _Slave(row=row)

    # What the service asks, by the names of its protocols.

    def lead(self) -> Term | None:
        if self.is_database_away and not self.keeps_lock:
            self.epoch += 1
            return None
        if self.dice.random() < self.error_rate / 4:
            self.epoch += 1  # the lock was lost for a moment
        return Term(epoch=self.epoch, began=self.now, state=self.state)

    def fence(self) -> None:
        if self.is_database_away or self.dice.random() < self.error_rate / 4:
            raise NotLeader("the fake was told to fail")

    def resign(self) -> None:
        """Nobody else is there."""

    name = "fake"

    def ask(self, ask: Ask, slave_id: str, instance_id: str, *, epoch: int) -> bool:
        with self.failing(DatabaseUnavailable):
            slave = self.slaves.get((slave_id, instance_id))
            if slave is None or epoch != self.epoch:
                return False
            wants = {Ask.RUN: ("run", "drain"), Ask.DRAIN: ("run", "drain"), Ask.DELETE: ("drain", "delete")}
            is_free = slave.row.state == "drained" and not slave.until
            if slave.row.want not in wants[ask] or (ask is Ask.DELETE and not is_free):
                return False
            slave.row = replace(slave.row, want=ask.value)
        return True

    def is_alive(self, slave_id: str, instance_id: str, *, silence: timedelta) -> bool:
        with self.failing(DatabaseUnavailable):
            return (slave_id, instance_id) in self.slaves

    def pins(self) -> list[Pin]:
        with self.failing(DatabaseUnavailable):
            return []

    def save(self, *, epoch: int, state: str, summary: str) -> bool:
        with self.failing(DatabaseUnavailable):
            self.state = state
        return True

    def record(self, record: AuditRecord, *, epoch: int) -> None:
        with self.failing(DatabaseUnavailable):
            self.records.append(record)

    def forget_old_records(self) -> int:
        with self.failing(DatabaseUnavailable):
            return 0


class Cluster:
    """The database's reading of everything."""

    def __init__(self, everything: Everything) -> None:
        self._all = everything

    def read(self, *, default_seconds: float) -> ClusterReading:
        with self._all.failing(DatabaseUnavailable):
            busy = [slave for slave in self._all.slaves.values() if slave.until]
            left = sum(max(0.0, slave.until - self._all.clock.now()) for slave in busy)
            job = JobWork(
                job_id="j", waiting=self._all.waiting, waiting_seconds=self._all.waiting * TASK_S, running=len(busy),
                running_seconds_left=left, longest_seconds=TASK_S,
            )  # fmt: skip
            jobs = (job,) if self._all.waiting or busy else ()
            return ClusterReading(now=self._all.now, jobs=jobs, slaves=tuple(s.row for s in self._all.slaves.values()))


class Tube:
    """The queue's reading of everything."""

    def __init__(self, everything: Everything) -> None:
        self._all = everything

    def read(self) -> TubeReading:
        with self._all.failing(QueueUnavailable):
            busy = sum(1 for slave in self._all.slaves.values() if slave.until)
            return TubeReading(server="a", ready=self._all.waiting, reserved=busy)


@dataclass(frozen=True, kw_only=True)
class Play:
    """The service on a stage: round by round, ten seconds each."""

    clock: FakeClock
    world: World
    everything: Everything
    fleet: WorldFleet
    service: Service

    def round(self) -> Tick:
        """One interval. Raises AssertionError if a busy slave is deleted or a target exceeds its maximum."""
        self.everything.live()
        busy = {key for key, slave in self.everything.slaves.items() if slave.until}
        deleted = len(self.fleet.deletes)
        tick = self.service.tick()
        assert not busy & set(self.fleet.deletes[deleted:]), "a busy slave was deleted"
        assert all(group.target <= 20 for group in self.world.groups.values())
        self.clock.sleep(INTERVAL_S)
        return tick


@contextmanager
def playing(directory: Path, *, error_rate: float = 0.0, rooms: Mapping[str, int] = GROUPS) -> Iterator[Play]:
    path = directory / "autoscale.toml"
    path.write_text(TOML)
    settings = load_settings(path)
    clock = FakeClock()
    world = World(clock.now, NoDriver(), Times(boot=60.0))
    for name, room in rooms.items():
        world.groups[name] = Group(name=name, zones=(name[-1],), stock={name[-1]: room})
    everything = Everything(clock=clock, world=world, error_rate=error_rate)
    fleet = WorldFleet(world, clock.now)
    fleet.error_rate = error_rate
    guarded = GuardedFleet(fleet, clock=clock.now, jitter=lambda: 0.0)
    listings = Listings(guarded, settings.policy.groups, clock=clock.now)
    sightings = Sightings(boot_s=90, longest_boot_s=600)
    executor = Executor(guarded, everything, everything, groups=2)
    signals = Signals(
        settings.policy, queue=Tube(everything), cluster=Cluster(everything), groups=listings, sightings=sightings,
        clock=DatabaseClock(monotonic=clock.now, wall=clock.now), monotonic=clock.now,
    )  # fmt: skip
    service = Service(
        settings, leader=everything, signals=signals, executor=executor, records=everything, sightings=sightings,
        metrics=Metrics(settings.policy), clock=clock.now,
    )  # fmt: skip
    with closing(listings), closing(executor):
        yield Play(clock=clock, world=world, everything=everything, fleet=fleet, service=service)


@pytest.mark.parametrize("error_rate", [0.0, 1 / 3], ids=["all goes well", "a third fails"])
def test_a_thousand_rounds_end_with_all_work_done_and_no_slave_left(tmp_path: Path, error_rate: float) -> None:
    most = 0
    with playing(tmp_path, error_rate=error_rate) as play:
        for number in range(1000):
            play.everything.waiting += ARRIVALS.get(number, 0)
            play.round()
            most = max(most, len(play.everything.slaves))

    assert play.everything.done == sum(ARRIVALS.values())
    assert [(group.name, group.target, group.machines) for group in play.world.groups.values()] == [
        ("spot-b", 0, []),
        ("spot-c", 0, []),
    ]
    assert [shrink for group in play.world.groups.values() for shrink in group.shrinks] == []
    assert 0 < most <= 30


@pytest.mark.parametrize("keeps_lock", [False, True], ids=["the lock is lost too", "the lock is kept"])
def test_an_outage_of_mysql_of_a_quarter_of_an_hour_under_load_deletes_nobody(tmp_path: Path, keeps_lock: bool) -> None:
    """Afterwards every heartbeat is old in the first good reading, and work is still there."""
    with playing(tmp_path) as play:
        everything = play.everything
        everything.waiting = 600
        for _ in range(20):
            play.round()
        names = sorted(everything.slaves)
        assert len(names) > 10
        changes = len(play.fleet.deletes)

        everything.is_database_away, everything.keeps_lock = True, keeps_lock
        holds = {play.round().decision.hold for _ in range(90)}
        assert holds == {Hold.STALE_DB if keeps_lock else Hold.NOT_LEADER}
        assert sorted(everything.slaves) == names
        everything.waiting += 600

        everything.is_database_away = False
        first = play.service.tick()  # before any slave could write again
        assert first.decision.hold is Hold.STALE_DB
        for _ in range(20):
            play.round()
        assert [key for key in play.fleet.deletes[changes:] if key[1]] == [], "only what was never made may go"
        assert set(names) <= set(everything.slaves)
        for _ in range(1000):
            play.round()

    assert everything.done == 1200
    assert [group.target for group in play.world.groups.values()] == [0, 0]


def test_c15_what_a_zone_has_no_room_for_is_bought_in_the_next_within_70_s(tmp_path: Path) -> None:
    """Fifteen are wanted, six can be had."""
    with playing(tmp_path, rooms={"spot-b": 6, "spot-c": 30}) as play:
        play.everything.waiting = 34
        first = play.round()
        assert first.decision.desired == 15
        assert [group.target for group in play.world.groups.values()] == [15, 0]
        for _ in range(6):
            play.round()

    assert [group.target for group in play.world.groups.values()] == [6, 9]
    assert len(play.fleet.deletes) == 9
