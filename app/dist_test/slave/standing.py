"""Whether a slave takes tasks: drains, preemption, and the quarantine of a slave on which nothing can be set up."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

SETUP_FAILURES_ALLOWED = 3  # reliability.md: in a row; one slave with a full disk must not eat the whole queue


class Standing:
    """Shared by the slots, the heartbeat and the signal handler of one slave."""

    def __init__(self, *, quarantine_retry: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._quarantine_retry = quarantine_retry.total_seconds()
        self._wanted = "run"
        self._is_preempted = False
        self._setup_failures = 0
        self._reason = ""
        self._next_try = 0.0
        self.leaving = threading.Event()  # set by SIGTERM: finish, then exit

    @property
    def is_draining(self) -> bool:
        # An instance that is to be deleted takes nothing either.
        return self.leaving.is_set() or self._is_preempted or self._wanted != "run"

    @property
    def message(self) -> str:
        """Why the slave takes no tasks; empty when it does."""
        with self._lock:
            return self._reason if self._is_quarantined else ""

    def state(self, *, holds: bool) -> str:
        """The state for the slave's row: up, draining, drained, preempted or quarantined.

        holds: whether anything would be lost with the machine, a task or a result that is not recorded yet.
        """
        if self._is_preempted:
            return "preempted"
        if self.is_draining:
            return "draining" if holds else "drained"
        return "quarantined" if self.message else "up"

    def want(self, wanted: str) -> None:
        """Note what the slave's row asks for: run, drain or delete."""
        self._wanted = wanted

    def preempt(self) -> None:
        """Note that the cloud takes the machine away; nothing takes that back."""
        self._is_preempted = True

    def may_reserve(self) -> bool:
        """Whether a slot may take another entry now. In quarantine one may try, every now and then."""
        if self.is_draining:
            return False
        with self._lock:
            if not self._is_quarantined:
                return True
            if self._clock() < self._next_try:
                return False
            self._next_try = self._clock() + self._quarantine_retry
            return True

    def set_up(self) -> None:
        """A task could be set up: all is well."""
        with self._lock:
            self._setup_failures = 0

    def setup_failed(self, reason: str) -> None:
        """A task could not be set up."""
        with self._lock:
            self._setup_failures += 1
            self._reason = f"{self._setup_failures} tasks in a row could not be set up; the last one: {reason}"
            self._next_try = self._clock() + self._quarantine_retry

    @property
    def _is_quarantined(self) -> bool:
        return self._setup_failures >= SETUP_FAILURES_ALLOWED
