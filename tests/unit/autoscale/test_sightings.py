"""What only watching tells: since when an instance is there, and how long it took to become a slave."""

from dataclasses import replace

import pytest

from dist_test_autoscale.documents import Node
from dist_test_autoscale.groups import GroupReading, ListedInstance
from dist_test_autoscale.sightings import Sightings
from dist_test_autoscale.snapshot import SlaveSnapshot

CREATED = ListedInstance(name="i0", id="", url="", action="CREATING", status="", errors=(), old_template=False)
RUNNING = replace(CREATED, id="7", action="NONE", status="RUNNING")
RECREATED = replace(CREATED, action="RECREATING")
SLAVE = SlaveSnapshot(
    name="i0", instance_id="7", slots=1, busy=0, state="up", want="run", lease_held=False, heartbeat=150.0,
    idle_since=150.0, started=150.0,
)  # fmt: skip


@pytest.fixture
def sightings() -> Sightings:
    return Sightings(boot_s=90, longest_boot_s=600)


def see(sightings: Sightings, now: float, *instances: ListedInstance) -> list[float]:
    """Note a listing; give since when its instances are there."""
    reading = GroupReading(name="g", target=len(instances), autoscaler=False, instances=instances)
    return [instance.first_seen for instance in sightings.note(reading, now)]


def test_an_instance_ages_from_before_it_has_an_id(sightings: Sightings) -> None:
    assert (see(sightings, 100, CREATED), see(sightings, 110, RUNNING), see(sightings, 120, RUNNING)) == (
        [100],
        [100],
        [100],
    )


def test_a_machine_that_was_made_anew_is_young(sightings: Sightings) -> None:
    see(sightings, 100, RUNNING)
    assert see(sightings, 200, RECREATED) == [200]
    assert see(sightings, 300, replace(RUNNING, id="8")) == [200]
    assert see(sightings, 400, replace(RUNNING, id="9")) == [400]


def test_what_is_gone_is_forgotten(sightings: Sightings) -> None:
    see(sightings, 100, RUNNING)
    see(sightings, 110)
    assert see(sightings, 120, RUNNING) == [120]


def test_a_boot_is_timed_once(sightings: Sightings) -> None:
    see(sightings, 100, CREATED)
    see(sightings, 140, RUNNING)
    assert (sightings.time_boots([SLAVE]), sightings.time_boots([replace(SLAVE, started=300.0)])) == ([50], [])
    assert sightings.boot_s == pytest.approx(90 - 0.3 * 40)


def test_the_boot_of_a_machine_that_ran_already_is_not_known(sightings: Sightings) -> None:
    see(sightings, 100, RUNNING)
    assert sightings.time_boots([SLAVE]) == []
    assert sightings.boot_s == 90


def test_what_took_longer_than_any_boot_is_none(sightings: Sightings) -> None:
    see(sightings, 100, CREATED)
    see(sightings, 140, RUNNING)
    assert sightings.time_boots([replace(SLAVE, started=1000.0)]) == []


def test_the_next_leader_remembers(sightings: Sightings) -> None:
    see(sightings, 100, CREATED)
    heir = Sightings(boot_s=1, longest_boot_s=600)
    heir.load(Node(value=sightings.to_document(), path="sightings"))
    assert (see(heir, 200, RUNNING), heir.boot_s) == ([100], 90)
    assert heir.time_boots([SLAVE]) == [50]
