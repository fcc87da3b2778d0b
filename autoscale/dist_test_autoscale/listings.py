"""Read all groups at once, each within the time there is; what could not be read is as it was a moment ago."""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from dist_test.errors import CloudError, CloudUnavailable
from dist_test_autoscale.breaker import Fleet
from dist_test_autoscale.groups import GroupReading
from dist_test_autoscale.settings import GroupSettings

logger = logging.getLogger(__name__)

# Without the last good listing another group would buy what this one has long bought; a longer memory would deny what
# an operator does meanwhile.
KEPT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A group's reading. Not `ok`: it is an old one, since the group cannot be read now."""

    reading: GroupReading
    ok: bool


class Listings:
    """Reads the groups, one thread a group. For one caller; close() it."""

    def __init__(
        self, fleet: Fleet, groups: Iterable[GroupSettings], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fleet = fleet
        self._groups = tuple(groups)
        self._clock = clock
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(self._groups)), thread_name_prefix="group")
        self._running: dict[str, Future[GroupReading]] = {}
        self._good: dict[str, tuple[float, GroupReading]] = {}
        self.errors: dict[str, str] = {}

    def read(self, deadline: float) -> tuple[Listing, ...]:
        """All groups of which anything is known. `errors` says afterwards what went wrong with which."""
        # A call that outlives its deadline keeps its thread, and its group has one call at a time.
        for group in self._groups:
            if group.name not in self._running:
                self._running[group.name] = self._pool.submit(self._fleet.read, group, deadline)
        wait(self._running.values(), timeout=max(0.0, deadline - self._clock()))
        fresh = {group.name for group in self._groups if self._take(group.name)}
        return tuple(
            Listing(reading=self._good[group.name][1], ok=group.name in fresh)
            for group in self._groups
            if group.name in self._good and self._clock() - self._good[group.name][0] <= KEPT_S
        )

    def close(self) -> None:
        """End the threads; a call that hangs has its own end."""
        self._pool.shutdown(cancel_futures=True)

    def _take(self, name: str) -> bool:
        """Take what the call about a group has found; say whether it is good."""
        try:
            future = self._running[name]
            if not future.done():
                raise CloudUnavailable(f"group {name}: the call about it has not ended in time")
            del self._running[name]
            self._good[name] = (self._clock(), future.result())
        except CloudError as exc:
            if name not in self.errors:
                logger.warning("%s", exc, extra={"action": "group_unread"})
            self.errors[name] = str(exc)
            return False
        if self.errors.pop(name, None):
            logger.info("Group %s can be read again", name, extra={"action": "group_read"})
        return True
