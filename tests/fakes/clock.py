"""Time that passes only when somebody sleeps."""

from collections.abc import Callable


class FakeClock:
    """A clock for what waits. `before_sleep` holds what to do in the 1st, 2nd, ... sleep: the world going on."""

    def __init__(self, *before_sleep: Callable[[], None]) -> None:
        self.sleeps: list[float] = []
        self._now = 1000.0
        self._before_sleep = list(before_sleep)

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0, "a sleep of no time is a busy loop"
        self.sleeps.append(seconds)
        self._now += seconds
        if self._before_sleep:
            self._before_sleep.pop(0)()
