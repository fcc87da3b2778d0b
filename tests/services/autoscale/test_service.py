"""Rounds of the service: real MariaDB and beanstalkd, the real client against the fake Compute Engine."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from dist_test.storage.autoscaling import EVERY_GROUP, Autoscaling
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue
from dist_test_autoscale import live
from dist_test_autoscale.command import main
from dist_test_autoscale.decision import Hold
from dist_test_autoscale.gce import compute_fleet
from dist_test_autoscale.policy import decide
from dist_test_autoscale.running import Workplace, workplace
from dist_test_autoscale.service import Tick
from dist_test_autoscale.settings import Settings
from dist_test_autoscale.snapshot import read_case
from dist_test_autoscale.web import answers, serving

from ...fakes.compute_engine import FakeComputeEngine, Fault
from ...fakes.compute_engine import serving as serving_fake
from ...fakes.instance_groups import Group, Machine, Times
from .conftest import MakeSettings, attempt, register, want_of

# Slaves are given back at once: what is tested here is how, not when.
HASTY = "[autoscale.in]\nstabilize_s = 0\nidle_grace_s = 0\nmin_uptime_s = 0\nmax_fraction = 1\n"
SECOND_GROUP = '[[autoscale.group]]\nname = "spot-c"\nzone = "us-central1-c"\npriority = 1\n'

Open = Callable[[Settings], Any]


@pytest.fixture
def fake() -> Iterator[FakeComputeEngine]:
    """Two groups whose machines boot at once."""
    fake = FakeComputeEngine(times=Times(boot=0.0))
    for letter in "bc":
        fake.add(Group(name=f"spot-{letter}", zones=(f"us-central1-{letter}",)))
    yield fake
    assert fake.violations == []
    assert fake.shrinks() == []


@pytest.fixture
def endpoint(fake: FakeComputeEngine) -> Iterator[str]:
    with serving_fake(fake) as endpoint:
        yield endpoint


@contextmanager
def opened(settings: Settings) -> Iterator[Workplace]:
    with workplace(settings, lambda metrics: closing(compute_fleet(settings, observe=metrics.observe_call))) as place:
        yield place


@pytest.fixture
def settings(make_settings: MakeSettings, endpoint: str) -> Settings:
    return make_settings(extra=HASTY, api_endpoint=endpoint)


@pytest.fixture
def place(settings: Settings, queue: Queue) -> Iterator[Workplace]:
    """A service that leads; the tube is there."""
    queue.statistics()
    with opened(settings) as place:
        yield place


def wait_for_work(database: Database, queue: Queue, tasks: int, *, seconds: float = 60.0) -> None:
    for index in range(tasks):
        attempt(database, index, expected=seconds)
        queue.put(str(index), priority=1)


def machines(fake: FakeComputeEngine, group: str = "spot-b") -> list[Machine]:
    fake.advance()
    return list(fake.world.groups[group].machines)


def target(fake: FakeComputeEngine, group: str = "spot-b") -> int:
    return fake.world.groups[group].target


def register_machines(database: Database, fake: FakeComputeEngine, **columns: Any) -> list[str]:
    """Every machine's slave comes up; give their names."""
    names = []
    for machine in machines(fake):
        register(database, machine.name, instance_id=machine.id, **columns)
        names.append(machine.name)
    return names


def results(tick: Tick) -> list[tuple[str, str, int, int]]:
    return [(str(one.kind), one.group, one.asked, one.done) for one in tick.outcomes]


def test_work_buys_slaves(database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace) -> None:
    wait_for_work(database, queue, 2, seconds=100)

    tick = place.service.tick()

    assert (tick.decision.hold, tick.decision.desired) == (None, 2)
    assert (results(tick), target(fake)) == ([("grow", "spot-b", 2, 2)], 2)
    assert place.service.tick().decision.actions == (), "those that boot are enough"


def test_an_idle_slave_is_drained_then_deleted(
    database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace
) -> None:
    fake.world.resize(fake.world.groups["spot-b"], 1)
    (name,) = register_machines(database, fake)

    assert results(place.service.tick()) == [("drain", "spot-b", 1, 1)]
    assert want_of(database, name) == "drain"
    assert place.service.tick().outcomes == (), "it has not answered yet"

    with database.engine.begin() as connection:
        connection.execute(text("UPDATE slaves SET state = 'drained'"))
    assert results(place.service.tick()) == [("delete", "spot-b", 1, 1)]
    assert (want_of(database, name), target(fake)) == ("delete", 0)


def test_work_takes_a_drain_back(database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace) -> None:
    fake.world.resize(fake.world.groups["spot-b"], 1)
    (name,) = register_machines(database, fake, want="drain", state="drained")
    wait_for_work(database, queue, 1)

    assert results(place.service.tick()) == [("undrain", "spot-b", 1, 1)]
    assert (want_of(database, name), target(fake)) == ("run", 1)


def test_a_new_leader_drains_nobody_for_a_while(
    database: Database, queue: Queue, fake: FakeComputeEngine, make_settings: MakeSettings, endpoint: str
) -> None:
    extra = HASTY.replace("stabilize_s = 0", "stabilize_s = 300")
    fake.world.resize(fake.world.groups["spot-b"], 1)
    register_machines(database, fake)
    queue.statistics()
    with opened(make_settings(extra=extra, api_endpoint=endpoint)) as place:
        tick = place.service.tick()

    assert (tick.decision.hold, tick.decision.actions) == (None, ())
    assert any("no slave is drained for another" in reason for reason in tick.decision.reasons)


def test_a_machine_that_came_back_as_another_is_left_alone(
    database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace
) -> None:
    """Its row still says that it is drained; its successor has the same name and another id."""
    fake.world.resize(fake.world.groups["spot-b"], 1)
    (name,) = register_machines(database, fake, want="drain", state="drained")
    fake.replace(name)
    fake.advance()

    assert place.service.tick().outcomes == ()
    assert [machine.name for machine in machines(fake)] == [name]


def test_a_lost_answer_buys_once(database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace) -> None:
    wait_for_work(database, queue, 3, seconds=100)
    fake.faults.append(Fault(action="resize", does_it_all_the_same=True))

    place.service.tick()
    place.service.tick()

    assert target(fake) == 3


def test_what_could_not_be_bought_is_bought_in_the_next_round(
    database: Database, queue: Queue, fake: FakeComputeEngine, make_settings: MakeSettings, endpoint: str
) -> None:
    """The budget of the minute is not used up by what failed."""
    queue.statistics()
    wait_for_work(database, queue, 3, seconds=100)
    fake.faults.append(Fault(action="resize", operation_error="RESOURCE_OPERATION_RATE_EXCEEDED"))
    with opened(make_settings(extra="[autoscale.out]\nmax_per_min = 3\n", api_endpoint=endpoint)) as place:
        first, second = place.service.tick(), place.service.tick()

    assert [outcome.result for outcome in first.outcomes] == ["error"]
    assert (results(second), target(fake)) == ([("grow", "spot-b", 3, 3)], 3)


def test_a_group_without_quota_rests_and_the_next_one_gives(
    database: Database, queue: Queue, fake: FakeComputeEngine, make_settings: MakeSettings, endpoint: str
) -> None:
    queue.statistics()
    wait_for_work(database, queue, 3, seconds=100)
    fake.faults.append(Fault(action="resize", group="spot-b", status=403, reason="quotaExceeded", times=9))
    with opened(make_settings(extra=SECOND_GROUP, api_endpoint=endpoint)) as place:
        place.service.tick()
        second = place.service.tick()

    assert results(second) == [("grow", "spot-c", 3, 3)]


def test_without_a_tube_nothing_is_given_back(database: Database, fake: FakeComputeEngine, settings: Settings) -> None:
    for index in range(50):
        attempt(database, index)
    fake.world.resize(fake.world.groups["spot-b"], 1)
    register_machines(database, fake)
    with opened(settings) as place:
        tick = place.service.tick()

    assert (tick.decision.hold, tick.outcomes) == (Hold.QUEUE_MISSING, ())


def test_without_beanstalkd_nothing_is_done(
    database: Database, fake: FakeComputeEngine, settings: Settings, free_port: int
) -> None:
    fake.world.resize(fake.world.groups["spot-b"], 1)
    (name,) = register_machines(database, fake)
    assert settings.queue is not None
    elsewhere = replace(settings, queue=replace(settings.queue, port=free_port))
    with opened(elsewhere) as place:
        tick = place.service.tick()
        assert place.service.readiness() == (False, "cannot be read: queue")
        assert place.service.health()[0]

    assert tick.decision.hold is Hold.STALE_QUEUE
    assert want_of(database, name) == "run"


def test_without_compute_engine_nothing_is_done_and_the_rounds_go_on(
    database: Database, queue: Queue, fake: FakeComputeEngine, make_settings: MakeSettings, free_port: int
) -> None:
    wait_for_work(database, queue, 3)
    with opened(make_settings(api_endpoint=f"http://127.0.0.1:{free_port}/compute/v1/")) as place:
        holds = [place.service.tick().decision.hold for _ in range(5)]
        assert place.service.health()[0]

    assert holds == [Hold.NO_USABLE_GROUP] * 5


def test_a_group_that_hangs_holds_up_nobody(
    database: Database, queue: Queue, fake: FakeComputeEngine, make_settings: MakeSettings, endpoint: str
) -> None:
    queue.statistics()
    wait_for_work(database, queue, 3, seconds=100)
    fake.faults.append(Fault(group="spot-b", hangs=5.5, status=503))
    began = time.monotonic()
    with opened(make_settings(extra=SECOND_GROUP, api_endpoint=endpoint, interval_s=5)) as place:
        tick = place.service.tick()
        took = time.monotonic() - began

    assert results(tick) == [("grow", "spot-c", 3, 3)]
    assert took < 5.0, "a round ends within the interval"


def test_a_dry_run_reads_and_changes_nothing(
    database: Database, queue: Queue, fake: FakeComputeEngine, settings: Settings
) -> None:
    wait_for_work(database, queue, 3)
    with opened(replace(settings, dry_run=True)) as place:
        tick = place.service.tick()

    assert ([action.kind for action in tick.decision.actions], tick.outcomes) == (["grow"], ())
    assert fake.changes() == []


def test_a_pinned_cluster_is_left_alone(
    database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace, records: Autoscaling
) -> None:
    wait_for_work(database, queue, 3)
    records.pin(EVERY_GROUP, None, by="ann")

    assert place.service.tick().is_dry
    assert fake.changes() == []


def test_a_pinned_group_is_kept_at_its_size(
    database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace, records: Autoscaling
) -> None:
    records.pin("spot-b", 2, by="ann")
    place.service.tick()
    assert target(fake) == 2

    wait_for_work(database, queue, 200, seconds=600)
    place.service.tick()

    assert target(fake) == 2


def test_a_record_of_pinned_groups_can_be_replayed_whatever_they_are_pinned_at(
    database: Database, queue: Queue, make_settings: MakeSettings, endpoint: str, records: Autoscaling
) -> None:
    """At fewer than all groups are to have together, or at more than they may have."""
    queue.statistics()
    size = "[autoscale.size]\nmin_total = 3\nmax_total = 5\n"
    with opened(make_settings(extra=size + SECOND_GROUP, api_endpoint=endpoint)) as place:
        for sizes in ((1, 1), (4, 4)):
            for group, pinned in zip(("spot-b", "spot-c"), sizes, strict=True):
                records.pin(group, pinned, by="ann")
            tick = place.service.tick()
            document = json.loads(json.dumps(tick.to_document()))
            case = read_case(document["case"])
            again = decide(case.policy, case.snapshot, case.state).to_document()
            assert again["actions"] == document["decision"]["actions"] != []


def test_a_record_can_be_replayed(database: Database, queue: Queue, place: Workplace) -> None:
    wait_for_work(database, queue, 3)
    place.service.tick()
    place.service.tick()

    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT document FROM autoscale_audit ORDER BY audit_id")).scalars().all()

    documents = [json.loads(row) for row in rows]
    assert len(documents) == 1, "the second round was no news"
    read_case(documents[0]["case"])
    assert documents[0]["results"] == [{"kind": "grow", "group": "spot-b", "asked": 3, "done": 3}]


def test_the_next_leader_knows_since_when_machines_are_there(
    database: Database, queue: Queue, fake: FakeComputeEngine, settings: Settings
) -> None:
    queue.statistics()
    wait_for_work(database, queue, 1)
    first_seen = []
    for _ in range(2):
        with opened(settings) as place:
            place.service.tick()
            snapshot = place.service.tick().case.snapshot
            first_seen.append([instance.first_seen for instance in snapshot.groups[0].instances])

    assert len(first_seen[0]) == 1
    assert first_seen[0] == first_seen[1]


def test_the_time_of_a_boot_is_learned(
    database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace
) -> None:
    fake.world.times.boot = 1000.0
    wait_for_work(database, queue, 1)
    place.service.tick()
    place.service.tick()
    (machine,) = machines(fake)
    register(database, machine.name, instance_id=machine.id)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE slaves SET started_at = UTC_TIMESTAMP(6) + INTERVAL 10 SECOND"))

    assert place.service.tick().case.snapshot.boot_s < 90 - 0.25 * (90 - 12)


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def test_the_pages_tell_how_it_is(database: Database, queue: Queue, place: Workplace) -> None:
    service = place.service
    pages = answers(place.metrics.registry, health=service.health, readiness=service.readiness, plan=service.plan)
    with serving("127.0.0.1:0", pages) as port:
        assert (get(port, "/healthz")[0], get(port, "/readyz")[0], get(port, "/plan")[0]) == (503, 503, 404)
        wait_for_work(database, queue, 3, seconds=100)
        service.tick()

        assert (get(port, "/healthz")[0], get(port, "/readyz")) == (200, (200, "leading\n"))
        assert json.loads(get(port, "/plan")[1])["decision"]["desired"] == 3
        assert get(port, "/elsewhere")[0] == 404
        families = {family.name: family for family in text_string_to_metric_families(get(port, "/metrics")[1])}

    assert {
        *("dta_queue", "dta_work_seconds", "dta_desired", "dta_capacity", "dta_target_size", "dta_actions"),
        *("dta_hold", "dta_leader", "dta_backoff_until", "dta_unplaced_demand", "dta_boot_seconds"),
        *("dta_api_requests", "dta_api_latency_seconds", "dta_tick_seconds", "dta_snapshot_age_seconds"),
        *("dta_preemptions", "dta_drain_timeouts", "dta_vm_seconds"),
    } <= families.keys()
    labels = {
        name: {label for sample in family.samples for label in sample.labels} for name, family in families.items()
    }
    assert labels["dta_queue"] == {"state"}
    assert labels["dta_capacity"] == {"group", "kind"}
    assert labels["dta_actions"] == {"kind", "group", "result"}
    assert labels["dta_api_requests"] == {"method", "code"}
    assert labels["dta_hold"] == {"reason"}
    assert labels["dta_snapshot_age_seconds"] == {"source"}
    kinds = {sample.labels["kind"] for sample in families["dta_capacity"].samples}
    assert kinds == {"live", "booting", "failed", "zombie", "draining"}
    acts = {
        sample.labels["kind"]: sample.value for sample in families["dta_actions"].samples if "_total" in sample.name
    }
    assert acts == {"grow": 1}


def test_a_service_that_stopped_deciding_is_not_healthy(
    database: Database, queue: Queue, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = place.service
    service.tick()
    now = time.monotonic()
    pages = answers(place.metrics.registry, health=service.health, readiness=service.readiness, plan=service.plan)
    with serving("127.0.0.1:0", pages) as port:
        monkeypatch.setattr(service, "_clock", lambda: now + 3 * 10 - 1)
        assert get(port, "/healthz")[0] == 200
        monkeypatch.setattr(service, "_clock", lambda: now + 3 * 10 + 1)
        assert get(port, "/healthz")[0] == 503


def test_c8_a_group_that_google_scales_is_told_and_left_alone(
    database: Database, queue: Queue, fake: FakeComputeEngine, place: Workplace
) -> None:
    fake.world.groups["spot-b"].autoscaler = True
    wait_for_work(database, queue, 3)

    assert place.service.tick().decision.hold is Hold.NO_USABLE_GROUP
    assert place.metrics.registry.get_sample_value("dta_autoscaler_attached", {"group": "spot-b"}) == 1
    assert fake.changes() == []


def test_plan_looks_and_changes_nothing(
    database: Database, queue: Queue, fake: FakeComputeEngine, settings: Settings
) -> None:
    wait_for_work(database, queue, 3, seconds=100)

    decision = live.plan(settings)

    assert decision.desired == 3
    assert {call.action for call in fake.calls} == {"get", "listManagedInstances"}


def test_status_and_pins_of_the_program(
    database: Database, queue: Queue, place: Workplace, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(settings.path)]
    assert main(["status", *config]) == 0
    assert capsys.readouterr().out == "no autoscaler has led yet\n"
    wait_for_work(database, queue, 1)
    place.service.tick()

    assert main(["pin", "--group", "spot-b", "--size", "2", *config]) == 0
    assert main(["status", "--json", *config]) == 0
    out = capsys.readouterr().out
    document = json.loads(out[out.index("{") :])
    assert (document["epoch"], document["is_current"], document["last"]["desired"]) == (1, True, 1)
    assert [(pin["group"], pin["size"]) for pin in document["pins"]] == [("spot-b", 2)]
    assert main(["unpin", "--group", "spot-b", *config]) == 0
    assert main(["pin", "--group", "spot-b", "--size", "11", *config]) == 2
    assert "give a number from 0 to its max, 10" in capsys.readouterr().err


def test_a_second_service_stands_by(
    database: Database, queue: Queue, place: Workplace, settings: Settings, fake: FakeComputeEngine
) -> None:
    place.service.tick()
    calls = len(fake.calls)
    with opened(settings) as second:
        tick = second.service.tick()
        assert second.service.readiness() == (True, "standing by")

    assert tick.decision.hold is Hold.NOT_LEADER
    assert len(fake.calls) == calls
