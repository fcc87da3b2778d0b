"""The time, for what waits: an object of its own, so that tests need not."""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that never run backwards, and a way to let some pass."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class RealClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
