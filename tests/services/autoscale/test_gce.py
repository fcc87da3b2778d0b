"""The real client against a strict Compute Engine: what is read, bought and given back."""

import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from google.auth.credentials import AnonymousCredentials

from dist_test.errors import CloudUnavailable
from dist_test_autoscale.gce import ComputeFleet
from dist_test_autoscale.settings import GroupSettings

from ...fakes.clock import FakeClock
from ...fakes.compute_engine import FakeComputeEngine, Fault, serving
from ...fakes.discovery import Call
from ...fakes.instance_groups import Group, Times


@pytest.fixture
def fake() -> Iterator[FakeComputeEngine]:
    """A project whose machines boot at once; nothing against the API's rules may be asked of it."""
    fake = FakeComputeEngine(times=Times(boot=0.0))
    fake.add(Group(name="spot-b", zones=("us-central1-b",)))
    fake.add(Group(name="wide", zones=("us-central1-b", "us-central1-c"), region="us-central1"))
    yield fake
    assert fake.violations == []
    assert fake.shrinks() == []


@pytest.fixture
def fleet(fake: FakeComputeEngine) -> Iterator[ComputeFleet]:
    with serving(fake) as endpoint:
        fleet = ComputeFleet(
            project="our-project",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth types only a part
            endpoint=endpoint,
            sleep=FakeClock().sleep,
        )
        yield fleet
        fleet.close()


def group(name: str = "spot-b", most: int = 2000) -> GroupSettings:
    """A zonal group, or the regional one."""
    zone, region = (None, "us-central1") if name == "wide" else ("us-central1-b", None)
    return GroupSettings(name=name, zone=zone, region=region, priority=0, spot=True, min=0, max=most)


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def new_id() -> str:
    return str(uuid.uuid4())


def actions(fake: FakeComputeEngine) -> list[str]:
    return [call.action for call in fake.calls]


@pytest.mark.parametrize("name", ["spot-b", "wide"])
def test_a_reading_has_the_target_and_every_machine(fake: FakeComputeEngine, fleet: ComputeFleet, name: str) -> None:
    assert fleet.grow(group(name), 3, new_id(), soon()) == 3

    reading = fleet.read(group(name), soon())

    assert (reading.name, reading.target, reading.autoscaler) == (name, 3, False)
    assert [(found.action, found.status, found.errors) for found in reading.instances] == [("NONE", "RUNNING", ())] * 3
    assert len({found.id for found in reading.instances}) == 3
    collection = "regionInstanceGroupManagers" if name == "wide" else "instanceGroupManagers"
    operations = "regionOperations" if name == "wide" else "zoneOperations"
    assert {call.method.partition(".")[0] for call in fake.calls} == {collection, operations}


def test_all_pages_are_read(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.world.resize(fake.world.groups["spot-b"], 1200)

    assert len({found.name for found in fleet.read(group(), soon()).instances}) == 1200
    assert actions(fake).count("listManagedInstances") == 3


def test_a_group_that_does_not_page_ends(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.add(Group(name="spot-d", zones=("us-central1-b",), target=3, pages=False))

    assert len(fleet.read(group("spot-d"), soon()).instances) == 3


def test_a_token_that_comes_again_ends_the_listing(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.add(Group(name="spot-d", zones=("us-central1-b",), target=3, pages=False, repeats_token=True))

    assert {found.name for found in fleet.read(group("spot-d"), soon()).instances} == {
        machine.name for machine in fake.world.groups["spot-d"].machines
    }
    assert actions(fake).count("listManagedInstances") == 2


def test_a_machine_that_cannot_be_made_says_why(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.add(Group(name="spot-d", zones=("us-central1-b",), target=2, stock={"us-central1-b": 1}))

    made, failed = fleet.read(group("spot-d"), soon()).instances

    assert (made.status, made.errors) == ("RUNNING", ())
    assert (failed.id, failed.status, failed.action) == ("", "", "CREATING")
    assert failed.errors == ("ZONE_RESOURCE_POOL_EXHAUSTED",)


def test_a_project_without_quota_says_so(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.world.quota = 0
    fleet.grow(group(), 1, new_id(), soon())

    assert [found.errors for found in fleet.read(group(), soon()).instances] == [("QUOTA_EXCEEDED",)]


def test_machines_of_an_earlier_template_are_told_apart(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fleet.grow(group(), 1, new_id(), soon())
    fake.advance()
    fake.world.groups["spot-b"].template = "slave-v2"
    fleet.grow(group(), 1, new_id(), soon())

    assert [found.old_template for found in fleet.read(group(), soon()).instances] == [True, False]


def test_an_attached_autoscaler_is_seen(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.world.groups["spot-b"].autoscaler = True

    assert fleet.read(group(), soon()).autoscaler


def test_a_group_grows_from_what_it_is_now(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fleet.grow(group(), 2, new_id(), soon())
    fake.world.resize(fake.world.groups["spot-b"], 7)  # an operator's

    fleet.grow(group(), 3, new_id(), soon())

    assert fake.world.groups["spot-b"].target == 10


@pytest.mark.parametrize(("target", "bought"), [(3, 2), (5, 0), (9, 0)], ids=["in part", "full", "more than full"])
def test_a_group_does_not_grow_above_its_max_and_never_shrinks(
    fake: FakeComputeEngine, fleet: ComputeFleet, target: int, bought: int
) -> None:
    fake.world.resize(fake.world.groups["spot-b"], target)

    assert fleet.grow(group(most=5), 4, new_id(), soon()) == bought
    assert fake.world.groups["spot-b"].target == target + bought


def test_the_same_request_buys_once(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    request_id = new_id()
    fleet.grow(group(), 3, request_id, soon())

    fleet.grow(group(), 3, request_id, soon())

    assert fake.world.groups["spot-b"].target == 3


@pytest.mark.parametrize("was_done", [True, False], ids=["the answer was lost", "it was not done"])
def test_a_failed_answer_buys_once(fake: FakeComputeEngine, fleet: ComputeFleet, was_done: bool) -> None:
    fake.faults = [Fault(action="resize", status=503, does_it_all_the_same=was_done)]

    fleet.grow(group(), 3, new_id(), soon())

    assert fake.world.groups["spot-b"].target == 3
    assert len({call.query["requestId"] for call in fake.changes()}) == 1
    assert len(fake.changes()) == (1 if was_done else 2)


@pytest.mark.parametrize(("raised_to", "is_enough"), [(2, False), (9, True)], ids=["a bit", "beyond"])
def test_a_target_that_somebody_raised_meanwhile_is_not_lowered_by_another_try(
    fake: FakeComputeEngine, fleet: ComputeFleet, raised_to: int, is_enough: bool
) -> None:
    fake.faults = [Fault(action="resize", status=503)]

    def interfere(call: Call) -> None:
        if call.action == "resize":
            fake.world.resize(fake.world.groups["spot-b"], raised_to)

    fake.on_call = interfere
    if is_enough:
        fleet.grow(group(), 3, new_id(), soon())
    else:
        with pytest.raises(CloudUnavailable):
            fleet.grow(group(), 3, new_id(), soon())

    assert fake.world.groups["spot-b"].target == raised_to


@pytest.mark.parametrize("name", ["spot-b", "wide"])
def test_named_machines_are_deleted_and_the_target_falls(
    fake: FakeComputeEngine, fleet: ComputeFleet, name: str
) -> None:
    fleet.grow(group(name), 4, new_id(), soon())
    first, *_, last = fleet.read(group(name), soon()).instances
    gone = ((first.name, first.id), (last.name, last.id))

    assert fleet.delete(group(name), gone, new_id(), soon()) == gone

    fake.advance()
    assert fake.world.groups[name].target == 2
    assert not {first.name, last.name} & {machine.name for machine in fake.world.groups[name].machines}


def test_machines_of_a_regional_group_keep_their_own_zones(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fleet.grow(group("wide"), 2, new_id(), soon())
    instances = fleet.read(group("wide"), soon()).instances

    fleet.delete(group("wide"), [(found.name, found.id) for found in instances], new_id(), soon())

    named = fake.changes()[-1].body["instances"]
    assert {name.split("/")[1] for name in named} == {"us-central1-b", "us-central1-c"}


def test_a_new_machine_of_an_old_name_is_left_alone(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fleet.grow(group(), 2, new_id(), soon())
    first, second = fleet.read(group(), soon()).instances
    fake.replace(first.name)

    deleted = fleet.delete(group(), [(first.name, first.id), (second.name, second.id)], new_id(), soon())

    assert deleted == ((second.name, second.id),)
    assert fake.world.groups["spot-b"].target == 1


def test_nothing_is_asked_for_machines_that_are_gone(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    assert fleet.delete(group(), [("spot-b-0001", "77")], new_id(), soon()) == ()
    assert fake.changes() == []


def test_what_could_not_be_made_is_deleted_by_name_and_no_id(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.add(Group(name="spot-d", zones=("us-central1-b",), target=3, stock={"us-central1-b": 1}))
    instances = fleet.read(group("spot-d"), soon()).instances
    failed = [(found.name, found.id) for found in instances if found.errors]

    assert fleet.delete(group("spot-d"), failed, new_id(), soon()) == tuple(failed)
    assert fake.world.groups["spot-d"].target == 1


def test_queued_machines_are_in_a_request_of_their_own(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fleet.grow(group(), 1, new_id(), soon())
    fake.advance()
    spot = fake.world.groups["spot-b"]
    spot.queues, fake.world.times.schedule = True, 3600.0
    fleet.grow(group(), 2, new_id(), soon())
    keys = [(found.name, found.id) for found in fleet.read(group(), soon()).instances]

    fleet.delete(group(), keys, new_id(), soon())

    placed, queued = (call.body["instances"] for call in fake.changes()[-2:])
    assert placed == [f"zones/us-central1-b/instances/{keys[0][0]}"]
    assert queued == [name for name, _ in keys[1:]]
    assert spot.target == 0


def test_a_request_deletes_a_thousand_at_most(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.world.resize(fake.world.groups["spot-b"], 1100)
    keys = [(found.name, found.id) for found in fleet.read(group(), soon()).instances]

    fleet.delete(group(), keys, new_id(), soon())

    assert [len(call.body["instances"]) for call in fake.changes()] == [1000, 100]
    assert fake.world.groups["spot-b"].target == 0


def test_the_same_request_deletes_once(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.faults = [Fault(action="deleteInstances", status=502, does_it_all_the_same=True)]
    fake.world.times.shutdown = 3600.0
    fleet.grow(group(), 3, new_id(), soon())
    first, *_ = fleet.read(group(), soon()).instances

    fleet.delete(group(), [(first.name, first.id)], new_id(), soon())

    assert fake.world.groups["spot-b"].target == 2
    assert len(fake.changes()) == 3


def test_groups_are_read_by_threads_side_by_side(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    for number in range(8):
        fake.add(Group(name=f"g{number}", zones=("us-central1-b",), target=2))
    sizes: list[int] = []

    def read(name: str) -> None:
        sizes.extend(len(fleet.read(group(name), soon(60)).instances) for _ in range(125))

    threads = [threading.Thread(target=read, args=(f"g{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sizes == [2] * 1000


def test_each_call_is_observed(fake: FakeComputeEngine) -> None:
    seen: list[tuple[str, str]] = []
    fake.faults = [Fault(action="get", status=503)]

    def observe(method: str, code: str, seconds: float) -> None:
        assert seconds > 0
        seen.append((method, code))

    with serving(fake) as endpoint:
        fleet = ComputeFleet(
            project="our-project",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth types only a part
            endpoint=endpoint,
            sleep=FakeClock().sleep,
            observe=observe,
        )
        fleet.read(group(), soon())
        fleet.close()

    assert seen == [
        ("instanceGroupManagers.get", "503"),
        ("instanceGroupManagers.get", "200"),
        ("instanceGroupManagers.listManagedInstances", "200"),
    ]
