"""When a group is left alone, and for how long."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from dist_test.errors import (
    CloudError,
    CloudForbidden,
    CloudQuotaExceeded,
    CloudRefused,
    CloudThrottled,
    CloudUnavailable,
    GroupAutoscaled,
    GroupNotFound,
    GroupPaused,
)
from dist_test_autoscale.breaker import GuardedFleet
from dist_test_autoscale.groups import GroupReading
from dist_test_autoscale.settings import GroupSettings

from ...fakes.clock import FakeClock

GROUP = GroupSettings(name="spot-b", zone="z", region=None, priority=0, spot=True, min=0, max=10)
OTHER = GroupSettings(name="spot-c", zone="z", region=None, priority=0, spot=True, min=0, max=10)


@dataclass(kw_only=True)
class OneAnswer:
    """A fleet whose every call ends the same way."""

    error: CloudError | None = None
    calls: list[str] = field(default_factory=list)

    def read(self, group: GroupSettings, deadline: float) -> GroupReading:
        self._answer(group)
        return GroupReading(name=group.name, target=1, autoscaler=False, instances=())

    def grow(self, group: GroupSettings, count: int, request_id: str, deadline: float) -> int:
        self._answer(group)
        return count

    def delete(
        self, group: GroupSettings, instances: Collection[tuple[str, str]], request_id: str, deadline: float
    ) -> tuple[tuple[str, str], ...]:
        self._answer(group)
        return tuple(instances)

    def _answer(self, group: GroupSettings) -> None:
        self.calls.append(group.name)
        if self.error is not None:
            raise self.error


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fleet() -> OneAnswer:
    return OneAnswer()


@pytest.fixture
def guarded(fleet: OneAnswer, clock: FakeClock) -> GuardedFleet:
    return GuardedFleet(fleet, clock=clock.now, jitter=lambda: 0.0)


def fail(guarded: GuardedFleet, fleet: OneAnswer, error: CloudError, times: int = 1) -> None:
    """Have calls about the group fail; none of them may be held back."""
    fleet.error = error
    for _ in range(times):
        with pytest.raises(type(error)):
            guarded.read(GROUP, time.monotonic())
    fleet.error = None


def pause_s(guarded: GuardedFleet, clock: FakeClock) -> float | None:
    pause = guarded.pause("spot-b")
    return None if pause is None else pause.until - clock.now()


def test_answers_are_passed_on(guarded: GuardedFleet) -> None:
    assert guarded.read(GROUP, 0.0).target == 1
    assert guarded.grow(GROUP, 2, "id", 0.0) == 2
    assert guarded.delete(GROUP, [("a", "1")], "id", 0.0) == (("a", "1"),)


@pytest.mark.parametrize(
    ("error", "times", "seconds"),
    [
        (CloudUnavailable("down"), 2, None),
        (CloudUnavailable("down"), 3, 30),
        (CloudRefused("no"), 3, 30),
        (CloudThrottled("slower"), 1, 54),
        (CloudForbidden("no"), 1, 30),
        (GroupNotFound("no"), 1, 30),
        (CloudQuotaExceeded("full"), 9, None),
        (GroupAutoscaled("taken"), 9, None),
    ],
)
def test_failures_in_a_row_make_a_pause(
    guarded: GuardedFleet, fleet: OneAnswer, clock: FakeClock, error: CloudError, times: int, seconds: float | None
) -> None:
    fail(guarded, fleet, error, times)

    assert pause_s(guarded, clock) == seconds


def test_a_success_between_failures_makes_them_no_row(
    guarded: GuardedFleet, fleet: OneAnswer, clock: FakeClock
) -> None:
    for _ in range(5):
        fail(guarded, fleet, CloudUnavailable("down"), 2)
        guarded.read(GROUP, 0.0)

    assert pause_s(guarded, clock) is None


def test_nothing_is_asked_during_a_pause(guarded: GuardedFleet, fleet: OneAnswer) -> None:
    fail(guarded, fleet, CloudForbidden("no"))

    with pytest.raises(GroupPaused, match="group spot-b is left alone for 30 s more: no"):
        guarded.grow(GROUP, 1, "id", 0.0)
    guarded.read(OTHER, 0.0)

    assert fleet.calls == ["spot-b", "spot-c"]


def test_each_failed_trial_doubles_the_pause_up_to_five_minutes(
    guarded: GuardedFleet, fleet: OneAnswer, clock: FakeClock
) -> None:
    pauses = []
    fail(guarded, fleet, CloudUnavailable("down"), 2)
    for _ in range(6):
        fail(guarded, fleet, CloudUnavailable("down"))
        pauses.append(pause_s(guarded, clock))
        clock.sleep(pauses[-1] or 1.0)

    assert pauses == [30, 60, 120, 240, 300, 300]


def test_a_trial_that_succeeds_ends_it(guarded: GuardedFleet, fleet: OneAnswer, clock: FakeClock) -> None:
    fail(guarded, fleet, CloudUnavailable("down"), 3)
    clock.sleep(30)
    guarded.read(GROUP, 0.0)
    clock.sleep(1)

    fail(guarded, fleet, CloudUnavailable("down"), 2)

    assert pause_s(guarded, clock) is None


def test_two_services_do_not_come_back_together(fleet: OneAnswer, clock: FakeClock) -> None:
    guarded = GuardedFleet(fleet, clock=clock.now, jitter=lambda: 1.0)

    fail(guarded, fleet, CloudThrottled("slower"))

    assert pause_s(guarded, clock) == pytest.approx(59.4)
