"""A fleet that leaves a group alone for a while after calls about it have failed."""

import logging
import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dist_test.errors import (
    CloudError,
    CloudForbidden,
    CloudQuotaExceeded,
    CloudThrottled,
    GroupAutoscaled,
    GroupNotFound,
    GroupPaused,
)
from dist_test_autoscale.groups import GroupReading
from dist_test_autoscale.settings import GroupSettings

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

FAILURES_ALLOWED = 3  # in a row; one refused connection is a restart of something
FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 300.0
THROTTLE_PAUSE_S = 54.0  # Compute Engine's quotas of requests are per minute; jitter included it is no longer
JITTER = 0.1  # two services that failed together shall not come back together


class Fleet(Protocol):
    """Managed instance groups; gce.ComputeFleet says what each call does."""

    def read(self, group: GroupSettings, deadline: float) -> GroupReading: ...

    def grow(self, group: GroupSettings, count: int, request_id: str, deadline: float) -> int: ...

    def delete(
        self, group: GroupSettings, instances: Collection[tuple[str, str]], request_id: str, deadline: float
    ) -> tuple[tuple[str, str], ...]: ...


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Until when a group is left alone, and why. `seconds` is the pause's length before jitter."""

    until: float
    seconds: float
    reason: str


class GuardedFleet:
    """Passes calls on. Each call about a group in pause raises GroupPaused; the first one after it is a trial.

    Three failures in a row make a pause of 30 s, each later failure one of twice that, up to 300 s. A missing group or
    a missing right makes one at once, and being throttled one of a minute. A lack of quota and an attached autoscaler
    make none: the group can still be read, and the policy sees to them. Calls about one group come from one thread at
    a time.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._fleet = fleet
        self._clock = clock
        self._jitter = jitter
        self._failures: dict[str, int] = {}
        self._pauses: dict[str, Pause] = {}

    def read(self, group: GroupSettings, deadline: float) -> GroupReading:
        """As the fleet. Raises GroupPaused too."""
        return self._guard(group, lambda: self._fleet.read(group, deadline))

    def grow(self, group: GroupSettings, count: int, request_id: str, deadline: float) -> int:
        """As the fleet. Raises GroupPaused too."""
        return self._guard(group, lambda: self._fleet.grow(group, count, request_id, deadline))

    def delete(
        self, group: GroupSettings, instances: Collection[tuple[str, str]], request_id: str, deadline: float
    ) -> tuple[tuple[str, str], ...]:
        """As the fleet. Raises GroupPaused too."""
        return self._guard(group, lambda: self._fleet.delete(group, instances, request_id, deadline))

    def pause(self, group: str) -> Pause | None:
        """The group's pause; None when it may be called, for a trial at least."""
        pause = self._pauses.get(group)
        return pause if pause is not None and self._clock() < pause.until else None

    def _guard(self, group: GroupSettings, call: Callable[[], Answer]) -> Answer:
        if (pause := self.pause(group.name)) is not None:
            left = pause.until - self._clock()
            raise GroupPaused(f"group {group.name} is left alone for {left:.0f} s more: {pause.reason}")
        try:
            answer = call()
        except (CloudQuotaExceeded, GroupAutoscaled):
            raise
        except CloudError as exc:
            self._note_failure(group.name, exc)
            raise
        self._note_success(group.name)
        return answer

    def _note_success(self, group: str) -> None:
        self._failures.pop(group, None)
        if self._pauses.pop(group, None) is not None:
            logger.info("Group %s answers again", group, extra={"action": "group_resumed", "group": group})

    def _note_failure(self, group: str, exc: CloudError) -> None:
        self._failures[group] = self._failures.get(group, 0) + 1
        is_lasting = isinstance(exc, (CloudForbidden, CloudThrottled, GroupNotFound))
        if not is_lasting and self._failures[group] < FAILURES_ALLOWED:
            return
        seconds = self._pause_s(group, exc)
        until = self._clock() + seconds * (1 + JITTER * self._jitter())
        self._pauses[group] = Pause(until=until, seconds=seconds, reason=str(exc))
        logger.warning(
            "Leaving group %s alone for %d s: %s", group, seconds, exc, extra={"action": "group_paused", "group": group}
        )

    def _pause_s(self, group: str, exc: CloudError) -> float:
        if isinstance(exc, CloudThrottled):
            return THROTTLE_PAUSE_S
        last = self._pauses.get(group)
        return FIRST_PAUSE_S if last is None else min(2 * last.seconds, LONGEST_PAUSE_S)
