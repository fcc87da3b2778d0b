"""The slave's heartbeat: it renews leases, touches queue entries, and learns what was canceled, taken or wanted."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from dist_test.errors import DatabaseRefused, DatabaseUnavailable, QueueEntryGone, QueueUnavailable
from dist_test.slave.holdings import Holding, Holdings, Stop
from dist_test.slave.standing import Standing
from dist_test.storage.claims import Claims

logger = logging.getLogger(__name__)

MOMENT_SECONDS = 1.0  # for a beat when the lease is over already


class Heartbeat:
    """One thread that beats every `every`, and one that touches the queue entries as often.

    Each beat: 1. one transaction extends the leases of all holdings and writes the slave's row; 2. holdings whose
    claim is no longer ours are stopped; 3. `want` is noted. When no beat has succeeded for a whole lease, other slaves
    may be running what we run: everything held is stopped, also while a beat waits for a database that is frozen.
    """

    def __init__(
        self,
        claims: Claims,
        holdings: Holdings,
        standing: Standing,
        *,
        busy: Callable[[], int],
        register: Callable[[], None],
        every: timedelta,
        lease: timedelta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._holdings = holdings
        self._standing = standing
        self._busy = busy
        self._register = register
        self._every = every.total_seconds()
        self._lease = lease.total_seconds()
        self._clock = clock
        self._last_success = clock()
        self._stopped = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        # Apart: a beanstalkd that hangs holds it up at every slot's connection, and leases lapsed meanwhile.
        self._toucher = threading.Thread(target=self._keep_touching, name="touches", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._toucher.start()

    def stop(self) -> None:
        """Stop beating. Leases that were not released run out by themselves."""
        self._stopped.set()
        self._hurry.set()
        self._thread.join()  # but not the other, which may be waiting for beanstalkd

    def hurry(self) -> None:
        """Beat at once: something has changed that others should know."""
        self._hurry.set()

    def beat(self) -> None:
        """Beat once."""
        began = self._clock()
        held = self._holdings.all()
        left_seconds = self._last_success + self._lease - began
        # At the end of an outage the lease is over, and the beat may well succeed: it is given a moment for that.
        lapse = threading.Timer(max(left_seconds, MOMENT_SECONDS), _stop_all, [held])
        lapse.daemon = True
        lapse.start()
        try:
            self._renew(held, began)
        except (DatabaseUnavailable, DatabaseRefused) as exc:
            logger.warning("No heartbeat: %s", exc, extra={"action": "heartbeat_failed"})
            if self._clock() - self._last_success > self._lease:
                _stop_all(held)
        finally:
            lapse.cancel()

    def touch(self) -> None:
        """Touch the entries of all holdings once."""
        for holding in self._holdings.all():
            _touch(holding)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.beat()
            except Exception:  # a beat that fails in a way nobody thought of must not end all later ones
                logger.exception("A heartbeat failed")
            self._hurry.wait(self._every)
            self._hurry.clear()

    def _keep_touching(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self.touch()
            except Exception:  # as for a beat
                logger.exception("Queue entries could not be touched")

    def _renew(self, held: list[Holding], began: float) -> None:
        # In this order: what a slot had in its hands when it was asked is among the holdings until it is recorded.
        busy = self._busy()
        state = self._standing.state(holds=busy > 0 or bool(self._holdings.all()))
        claims = [holding.claim for holding in held]
        answer = self._claims.renew(claims, busy=busy, state=state, message=self._standing.message)
        # The lease was extended some time after `began`, so it ends later than we think: the safe side.
        self._last_success = began
        for claim in answer.lost:
            self._stop_lost(claim in answer.canceled, self._holdings.find(claim))
        if answer.want is None:
            self._register()
        else:
            self._standing.want(answer.want)

    def _stop_lost(self, is_canceled: bool, holding: Holding | None) -> None:
        # None: its result was recorded between the list and the answer, which is why it is no longer unfinished.
        if holding is not None:
            why = Stop.CANCELED if is_canceled else Stop.TAKEN
            logger.info("Stopping %s: %s", holding.entry.name, why.value, extra={"action": "stopped"})
            holding.stop(why)


def _stop_all(held: list[Holding]) -> None:
    for holding in held:
        holding.stop(Stop.TAKEN)


def _touch(holding: Holding) -> None:
    try:
        holding.queue.touch(holding.reservation)
    except (QueueEntryGone, QueueUnavailable) as exc:
        # After a restart of beanstalkd the entry is ready again. Our lease makes others leave it alone.
        logger.debug("Not touched: %s", exc)
