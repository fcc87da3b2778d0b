"""Schedules of faults: the same for the same seed, and without what tasks could not survive."""

from collections import Counter
from itertools import combinations

import pytest

from .schedule import FOUR_LAPSES_SECONDS, ISOLATE, MAX_ISOLATE_OUTAGES, ROLES, Kind, draw

SECONDS = 100
SEEDS = range(1, 31)


def test_a_seed_always_gives_the_same_faults() -> None:
    assert draw(7, seconds=SECONDS, slaves=4) == draw(7, seconds=SECONDS, slaves=4)
    assert draw(7, seconds=SECONDS, slaves=4) != draw(8, seconds=SECONDS, slaves=4)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_role_is_killed_and_the_queue_is_wiped_once(seed: int) -> None:
    faults = draw(seed, seconds=SECONDS, slaves=4)
    kinds = Counter(fault.kind for fault in faults)
    assert {fault.role for fault in faults if fault.kind is Kind.KILL} == set(ROLES)
    assert kinds[Kind.WIPE] == 1


def test_everything_happens_to_somebody() -> None:
    assert {fault.kind for seed in SEEDS for fault in draw(seed, seconds=SECONDS, slaves=4)} == set(Kind)


@pytest.mark.parametrize("seed", SEEDS)
def test_leases_have_time_to_be_taken_over_before_the_next_ones_lapse(seed: int) -> None:
    ending = [fault for fault in draw(seed, seconds=SECONDS, slaves=4) if fault.ends_leases]
    assert len(ending) > 5
    for earlier, later in combinations(ending, 2):
        assert earlier.settled_seconds <= later.at_seconds
    for first, fourth in zip(ending, ending[3:], strict=False):
        assert fourth.at_seconds - first.at_seconds >= FOUR_LAPSES_SECONDS


@pytest.mark.parametrize("seed", SEEDS)
def test_a_target_works_again_before_its_next_fault(seed: int) -> None:
    for earlier, later in combinations(draw(seed, seconds=SECONDS, slaves=4), 2):
        assert earlier.target != later.target or earlier.over_seconds <= later.at_seconds


@pytest.mark.parametrize("seed", SEEDS)
def test_the_isolate_server_is_away_less_often_than_ends_a_task(seed: int) -> None:
    faults = draw(seed, seconds=SECONDS, slaves=4)
    outages = [fault for fault in faults if fault.role == ISOLATE and fault.kind.is_outage]
    assert len(outages) <= MAX_ISOLATE_OUTAGES
    assert all(fault.lasts_seconds <= 4 for fault in outages)
