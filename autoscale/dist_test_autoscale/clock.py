"""The database's time between two readings of it: leases, heartbeats and decisions all go by that."""

import time
from collections.abc import Callable


class DatabaseClock:
    """Seconds since 1970 by the database; by this host's clock until it was first heard of."""

    def __init__(
        self, *, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def now(self) -> float:
        """The database's time, as far as known."""
        return self.at(self._monotonic())

    def at(self, monotonic: float) -> float:
        """The database's time at a moment of this host's monotonic clock."""
        return monotonic + self._offset

    def set(self, seconds: float) -> None:
        """Learn the time that the database says it is."""
        self._offset = seconds - self._monotonic()
