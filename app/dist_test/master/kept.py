"""What is worked out once for all who ask within a moment."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

Value = TypeVar("Value")

MOST = 64  # who asks for ever other things shall not fill the memory


class _Made(NamedTuple, Generic[Value]):
    at: float
    value: Value


class Kept(Generic[Value]):
    """Values by key, made anew when they are older than `seconds`. Safe to share between threads.

    While one thread makes a value anew, the others are given the old one, up to `stale_seconds` of age. Nobody waits
    for another: without an old one each makes its own.
    """

    def __init__(
        self, *, seconds: float, stale_seconds: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._stale_seconds = seconds if stale_seconds is None else stale_seconds
        self._clock = clock
        self._values: dict[Hashable, _Made[Value]] = {}
        self._being_made: set[Hashable] = set()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value, which `make` gives when there is none that is young enough; what it raises is raised."""
        with self._lock:
            old = self._values.get(key)
            age = self._clock() - old.at if old is not None else 0.0
            limit = self._stale_seconds if key in self._being_made else self._seconds
            if old is not None and age < limit:
                return old.value
            self._being_made.add(key)
        try:
            value = make()
            self._keep(key, value)
        finally:
            with self._lock:
                self._being_made.discard(key)
        return value

    def forget(self, key: Hashable) -> None:
        """Have the next who asks make it anew."""
        with self._lock:
            self._values.pop(key, None)

    def _keep(self, key: Hashable, value: Value) -> None:
        with self._lock:
            now = self._clock()
            young = {name: made for name, made in self._values.items() if now - made.at < self._stale_seconds}
            self._values = dict(list(young.items())[-MOST + 1 :]) | {key: _Made(now, value)}
