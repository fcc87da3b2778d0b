"""What the service relies on: the same of the real client and of the fake without HTTP."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials

from dist_test.errors import CloudUnavailable, GroupAutoscaled, GroupNotFound
from dist_test_autoscale.breaker import Fleet
from dist_test_autoscale.gce import ComputeFleet
from dist_test_autoscale.settings import GroupSettings

from ...fakes.compute_engine import FakeComputeEngine, serving
from ...fakes.fleet import WorldFleet
from ...fakes.instance_groups import Group, NoDriver, Times, World

GROUP = GroupSettings(name="spot-b", zone="us-central1-b", region=None, priority=0, spot=True, min=0, max=5)


@pytest.fixture(params=["the real client", "the fake"])
def both(request: pytest.FixtureRequest) -> Iterator[tuple[Fleet, World]]:
    """A fleet, and the world that it is about: one empty group whose zone has room for three machines."""
    times = Times(boot=0.0)
    group = Group(name="spot-b", zones=("us-central1-b",), stock={"us-central1-b": 3})
    if request.param == "the fake":
        world = World(time.monotonic, NoDriver(), times)
        world.groups[group.name] = group
        yield WorldFleet(world, time.monotonic), world
        return
    fake = FakeComputeEngine(times=times)
    fake.add(group)
    with serving(fake) as endpoint:
        credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth types only a part
        fleet = ComputeFleet(project="our-project", credentials=credentials, endpoint=endpoint)
        yield fleet, fake.world
        fleet.close()


def soon() -> float:
    return time.monotonic() + 20


def new_id() -> str:
    return str(uuid.uuid4())


def test_what_is_bought_is_listed(both: tuple[Fleet, World]) -> None:
    fleet, _ = both
    assert fleet.grow(GROUP, 2, new_id(), soon()) == 2

    reading = fleet.read(GROUP, soon())

    assert (reading.name, reading.target, reading.autoscaler) == ("spot-b", 2, False)
    assert [(one.action, one.status, one.errors, one.old_template) for one in reading.instances] == [
        ("NONE", "RUNNING", (), False)
    ] * 2


def test_growth_ends_at_the_maximum(both: tuple[Fleet, World]) -> None:
    fleet, _ = both
    assert fleet.grow(GROUP, 9, new_id(), soon()) == 5
    assert fleet.grow(GROUP, 9, new_id(), soon()) == 0


def test_what_there_is_no_room_for_is_listed_with_the_reason(both: tuple[Fleet, World]) -> None:
    fleet, _ = both
    fleet.grow(GROUP, 4, new_id(), soon())

    failed = [one for one in fleet.read(GROUP, soon()).instances if one.errors]

    assert [(one.id, one.status, one.action, one.errors) for one in failed] == [
        ("", "", "CREATING", ("ZONE_RESOURCE_POOL_EXHAUSTED",))
    ]
    assert fleet.delete(GROUP, [(failed[0].name, "")], new_id(), soon()) == ((failed[0].name, ""),)
    assert fleet.read(GROUP, soon()).target == 3


def test_only_that_very_machine_is_deleted(both: tuple[Fleet, World]) -> None:
    fleet, world = both
    fleet.grow(GROUP, 2, new_id(), soon())
    first, second = fleet.read(GROUP, soon()).instances
    world.replace(first.name)

    gone = fleet.delete(GROUP, [(first.name, first.id), (second.name, second.id)], new_id(), soon())

    assert gone == ((second.name, second.id),)
    assert fleet.read(GROUP, soon()).target == 1


def test_a_group_of_googles_autoscaler_is_not_grown(both: tuple[Fleet, World]) -> None:
    fleet, world = both
    world.groups["spot-b"].autoscaler = True
    assert fleet.read(GROUP, soon()).autoscaler
    with pytest.raises(GroupAutoscaled):
        fleet.grow(GROUP, 1, new_id(), soon())


def test_a_group_that_is_not_there_is_named(both: tuple[Fleet, World]) -> None:
    fleet, world = both
    world.groups.clear()
    with pytest.raises(GroupNotFound, match="spot-b"):
        fleet.read(GROUP, soon())


def test_nothing_is_done_after_the_deadline(both: tuple[Fleet, World]) -> None:
    fleet, world = both
    with pytest.raises(CloudUnavailable):
        fleet.grow(GROUP, 1, new_id(), time.monotonic() - 1)
    assert world.groups["spot-b"].target == 0
