"""The service while what it stands on goes away and comes back: nothing is done blindly, nothing twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import text

from dist_test.local.daemons import Beanstalkd, MariaDb
from dist_test.local.ports import free_port
from dist_test.settings import BeanstalkSettings
from dist_test.storage.autoscaling import Ask, Autoscaling
from dist_test.storage.database import Database
from dist_test.storage.migrate import migrate
from dist_test.storage.queue import Queue
from dist_test_autoscale import breaker
from dist_test_autoscale.decision import Hold
from dist_test_autoscale.gce import compute_fleet
from dist_test_autoscale.running import workplace
from dist_test_autoscale.servers import beanstalk_settings as beanstalk_settings_of
from dist_test_autoscale.settings import load_settings
from dist_test_autoscale.web import answers, serving

from ...fakes.compute_engine import FakeComputeEngine
from ...fakes.compute_engine import serving as serving_fake
from ...fakes.discovery import Call
from ...fakes.instance_groups import Group, Times
from ...farm import wait
from ..conftest import create_database, mysql_settings
from .conftest import MakeSettings, attempt, register, toml, want_of
from .programs import Program, leads, standing_epoch, start_program
from .test_service import HASTY, get


@pytest.fixture
def fake() -> Iterator[FakeComputeEngine]:
    fake = FakeComputeEngine(times=Times(boot=0.0))
    fake.add(Group(name="spot-b", zones=("us-central1-b",)))
    yield fake
    assert fake.violations == []
    assert fake.shrinks() == []


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a test begins."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(fake: FakeComputeEngine, tmp_path: Path, stack: ExitStack) -> Callable[[str], Program]:
    """Start the program with a configuration, and wait for its first round."""
    endpoint = stack.enter_context(serving_fake(fake))

    def start(written: str) -> Program:
        program = start_program(written, endpoint, tmp_path / "program.toml")
        stack.callback(program.kill)
        wait(program.is_healthy, 60, program.log.read_text)
        return program

    return start


def wait_for_work(database: Database, queue: Queue, *indexes: int) -> None:
    for index in indexes:
        attempt(database, index, expected=100.0)
        queue.put(str(index), priority=1)


def test_c4_without_compute_engine_for_five_rounds_the_service_is_healthy_and_then_buys_once(
    database: Database,
    queue: Queue,
    fake: FakeComputeEngine,
    make_settings: MakeSettings,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE_S", 0.5)
    wait_for_work(database, queue, 0, 1, 2)
    port = free_port()
    settings = make_settings(api_endpoint=f"http://127.0.0.1:{port}/compute/v1/")
    place = stack.enter_context(workplace(settings, lambda _: closing(compute_fleet(settings))))
    service = place.service
    pages = answers(place.metrics.registry, health=service.health, readiness=service.readiness, plan=service.plan)
    page_port = stack.enter_context(serving("127.0.0.1:0", pages))

    healthy = []
    for _ in range(5):
        service.tick()
        healthy.append((get(page_port, "/healthz")[0], get(page_port, "/readyz")[0]))
    reasons = " ".join(service.tick().decision.reasons)
    assert healthy == [(200, 503)] * 5
    assert "no group of the configuration can be read" in reasons

    stack.enter_context(serving_fake(fake, port=port))
    wait(lambda: bool(service.tick().outcomes), 20)
    service.tick()
    assert fake.world.groups["spot-b"].target == 3
    assert len(fake.changes()) == 1
    assert get(page_port, "/readyz") == (200, "leading\n")


def test_c20_while_mysql_restarts_it_stands_by_and_then_leads_anew(
    tmp_path: Path, fake: FakeComputeEngine, start: Callable[[str], Program], queue: Queue, stack: ExitStack,
    beanstalk_settings: BeanstalkSettings,
) -> None:  # fmt: skip
    mariadb = MariaDb(tmp_path / "mariadb")
    mariadb.start()
    stack.callback(mariadb.kill)
    mariadb.keep_ports()
    create_database(mariadb, "dist_test_own")
    database = stack.enter_context(closing(Database(mysql_settings(mariadb, "dist_test_own"))))
    migrate(database)
    records = Autoscaling(database)
    wait_for_work(database, queue, 0)
    program = start(toml(database.settings, beanstalk_settings, tmp_path, free_port()))
    wait(lambda: leads(records, program) and len(fake.changes()) == 1, 30, program.log.read_text)
    epoch = standing_epoch(records)

    mariadb.kill()
    for index in (1, 2):
        queue.put(str(index), priority=1)  # it sees these and must not act on them
    wait(lambda: "dta_leader 0.0" in program.get("/metrics")[1], 30, program.log.read_text)
    assert program.get("/healthz")[0] == 200
    calls = len(fake.calls)
    mariadb.start()
    assert fake.changes()[1:] == []
    assert not [call for call in fake.calls[calls:] if call.action not in ("get", "listManagedInstances")]

    wait(lambda: standing_epoch(records) == epoch + 1, 40, program.log.read_text)
    for index in (1, 2):
        attempt(database, index, expected=100.0)
    wait(lambda: fake.world.groups["spot-b"].target == 3, 30, program.log.read_text)
    assert leads(records, program)
    assert len(fake.changes()) == 2


def test_c21_without_beanstalkd_slaves_are_left_alone_until_it_is_back(
    database: Database, fake: FakeComputeEngine, make_settings: MakeSettings, tmp_path: Path, stack: ExitStack
) -> None:
    beanstalkd = Beanstalkd(tmp_path / "beanstalkd")
    beanstalkd.start()
    stack.callback(beanstalkd.kill)
    beanstalkd.keep_ports()
    path = make_settings(extra=HASTY + "queue_restart_hold_s = 1\n").path
    lines = path.read_text().splitlines()
    lines[lines.index("[autoscale.queue]") + 2] = f"port = {beanstalkd.port}"
    endpoint = stack.enter_context(serving_fake(fake))
    path.write_text("\n".join(lines).replace("http://127.0.0.1:9/compute/v1/", endpoint))
    settings = load_settings(path)
    tube = stack.enter_context(closing(Queue(beanstalk_settings_of(settings))))
    tube.put("0", priority=1)
    fake.world.resize(fake.world.groups["spot-b"], 2)
    fake.advance()
    for machine in fake.world.groups["spot-b"].machines:
        register(database, machine.name, instance_id=machine.id)
    names = [machine.name for machine in fake.world.groups["spot-b"].machines]
    place = stack.enter_context(workplace(settings, lambda _: closing(compute_fleet(settings))))

    beanstalkd.kill()
    assert [place.service.tick().decision.hold for _ in range(2)] == [Hold.STALE_QUEUE] * 2
    assert [want_of(database, name) for name in names] == ["run", "run"]
    beanstalkd.start()
    back = place.service.tick().decision
    assert (back.hold, back.desired) == (None, 1), "the entry is there again"
    wait(lambda: sorted(want_of(database, name) for name in names if place.service.tick()) == ["drain", "run"], 20)
    assert fake.changes() == []


def test_c22_without_the_tube_of_fifty_rows_the_program_itself_holds(
    database: Database, fake: FakeComputeEngine, start: Callable[[str], Program], make_settings: MakeSettings
) -> None:
    for index in range(50):
        attempt(database, index)
    fake.world.resize(fake.world.groups["spot-b"], 1)
    program = start(make_settings(extra=HASTY).path.read_text())

    wait(lambda: 'dta_hold{reason="queue_missing"} 1.0' in program.get("/metrics")[1], 20, program.log.read_text)
    assert fake.changes() == []
    assert fake.world.groups["spot-b"].target == 1


def test_c23_sigterm_during_a_round_lets_it_end_and_gives_the_lock_back(
    database: Database, queue: Queue, fake: FakeComputeEngine, start: Callable[[str], Program],
    make_settings: MakeSettings, records: Autoscaling,
) -> None:  # fmt: skip
    asked, may_answer = threading.Event(), threading.Event()

    def be_slow(call: Call) -> None:
        if call.action == "resize":
            asked.set()
            may_answer.wait(10)

    fake.on_call = be_slow
    queue.statistics()
    program = start(make_settings().path.read_text())
    wait_for_work(database, queue, 0, 1, 2)
    assert asked.wait(30), program.log.read_text()
    program.process.terminate()
    assert program.process.poll() is None, "the round is not over"
    may_answer.set()

    assert program.process.wait(timeout=20) == 0
    assert fake.world.groups["spot-b"].target == 3
    assert len(fake.changes()) == 1
    standing = records.standing()
    assert standing is not None
    assert '"done": 3' in (standing.summary or ""), "the round was kept"
    with database.engine.connect() as connection:
        lock = {"name": f"dist_test.autoscaler.{database.settings.database}"}
        assert connection.execute(text("SELECT IS_FREE_LOCK(:name)"), lock).scalar_one() == 1


def test_c27_of_a_delete_and_an_undrain_at_once_exactly_one_wins(database: Database, records: Autoscaling) -> None:
    epoch = records.begin_term("x").epoch
    results: dict[Ask, list[bool]] = {Ask.RUN: [], Ask.DELETE: []}
    barrier = threading.Barrier(2)

    def ask_all(ask: Ask) -> None:
        for number in range(20):
            barrier.wait(20)
            results[ask].append(records.ask(ask, f"s{number}", f"id-s{number}", epoch=epoch))

    for number in range(20):
        register(database, f"s{number}", want="drain", state="drained")
    threads = [threading.Thread(target=ask_all, args=(ask,)) for ask in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [ran != deleted for ran, deleted in zip(results[Ask.RUN], results[Ask.DELETE], strict=True)] == [True] * 20
    wants = [want_of(database, f"s{number}") for number in range(20)]
    assert wants == ["run" if ran else "delete" for ran in results[Ask.RUN]]
