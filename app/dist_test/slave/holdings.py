"""What a slave has in its hands: each attempt from its claim until its result is recorded."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from dist_test.model.task import QueueEntry
from dist_test.running.tails import TailsRequest
from dist_test.storage.claims import Claim
from dist_test.storage.queue import Queue, Reservation


class Stop(Enum):
    """Why an attempt must not go on."""

    CANCELED = "canceled"
    TAKEN = "taken"  # its claim is another's now, or its lease could not be renewed
    HANDED_BACK = "handed back"  # the slave drains and cannot wait
    PREEMPTED = "preempted"  # handed back, because the slave's machine goes away
    NOT_BEGUN = "not begun"  # claimed ahead, but what runs before it does not end


@dataclass(eq=False, kw_only=True)
class Holding:
    """An attempt in a slot's hands. `stopped` says why its result must not count; None as long as it does.

    waited_seconds: from its claim to its beginning, when it was claimed ahead.

    Only `queue`, the connection that reserved the entry, can touch, release or finish the reservation.
    """

    entry: QueueEntry
    queue: Queue
    reservation: Reservation
    claim: Claim
    waited_seconds: float = 0.0
    _claimed_at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: Stop | None = None
    _interrupt: Callable[[], None] | None = None
    _ask_for_tails: Callable[[], TailsRequest | None] | None = None

    @property
    def stopped(self) -> Stop | None:
        return self._stopped

    def begin(self) -> None:
        """Note that it begins now, later than its claim."""
        self.waited_seconds = time.monotonic() - self._claimed_at

    def on_stop(self, interrupt: Callable[[], None]) -> None:
        """Call `interrupt` when the attempt must stop; at once when it must already."""
        with self._lock:
            self._interrupt = interrupt
            is_stopped = self._stopped is not None
        if is_stopped:
            interrupt()

    def on_look(self, ask_for_tails: Callable[[], TailsRequest | None]) -> None:
        """Call this, from here until ended(), when somebody looks at what the attempt writes."""
        with self._lock:
            self._ask_for_tails = ask_for_tails

    def ask_for_tails(self) -> TailsRequest | None:
        """Ask what the attempt has written so far, without waiting; None while nobody can be asked. Raises OSError."""
        with self._lock:
            return self._ask_for_tails() if self._ask_for_tails is not None else None

    def stop(self, why: Stop) -> None:
        """Stop the attempt, wherever it is. The first reason stays."""
        with self._lock:
            if self._stopped is not None:
                return
            self._stopped = why
            # Under the lock: once ended() has returned, nothing is interrupted any more.
            if self._interrupt is not None:
                self._interrupt()

    def ended(self) -> None:
        """Note that the attempt does not run any more: from here, stop() leaves alone what its slot runs next."""
        with self._lock:
            self._interrupt = self._ask_for_tails = None


class Holdings:
    """All holdings of one slave; shared by its slots, its heartbeat and its writer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_claim: dict[Claim, Holding] = {}
        self._stop: Stop | None = None

    def add(self, holding: Holding) -> None:
        with self._lock:
            self._by_claim[holding.claim] = holding
            why = self._stop
        if why is not None:
            holding.stop(why)

    def stop_all(self, why: Stop) -> None:
        """Stop everything held, and everything that is added from now on."""
        with self._lock:
            self._stop = why
        for holding in self.all():
            holding.stop(why)

    def remove(self, holding: Holding) -> None:
        with self._lock:
            self._by_claim.pop(holding.claim, None)

    def all(self) -> list[Holding]:
        with self._lock:
            return list(self._by_claim.values())

    def find(self, claim: Claim) -> Holding | None:
        with self._lock:
            return self._by_claim.get(claim)
