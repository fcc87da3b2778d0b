"""One slot of a slave: a thread, a connection to the queue, and a runner with a user of its own."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from dist_test.errors import (
    DatabaseUnavailable,
    DeadlineSoon,
    InvalidJob,
    QueueEntryGone,
    QueueUnavailable,
)
from dist_test.isolate.cache import BlobCache
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.running.records import RunResult
from dist_test.running.runner import Runner
from dist_test.slave.holdings import Holding, Holdings, Stop
from dist_test.slave.live import LiveOutput
from dist_test.slave.metrics import ATTEMPTS, STOPPED
from dist_test.slave.standing import Standing
from dist_test.slave.task import SetupFailure, result_of, run_attempt, setup_failed
from dist_test.slave.uploads import Uploaded, Uploader
from dist_test.slave.writer import Finished, Writer
from dist_test.storage.claims import Claim, Claims, Refusal
from dist_test.storage.finishes import Finishes, Result
from dist_test.storage.queue import Queue, Reservation

logger = logging.getLogger(__name__)

IDLE_SECONDS = 5  # how long an idle slot waits in one reserve: also how late it may notice a drain
PAUSE_SECONDS = 1.0  # between two looks while the slot may not reserve, or a server is away
AVOID_SECONDS = 1  # how long an entry waits for another slave than the one it failed on
_RELEASED = {
    Stop.HANDED_BACK: "the slave leaves",
    Stop.PREEMPTED: "the slave's machine was preempted",
    Stop.NOT_BEGUN: "what runs in its slot takes longer than expected",
}
# What is expected to end within this is short: while it runs, the next attempt is claimed. It waits so long at most.
SHORT_SECONDS = 0.25
MAX_UNRECORDED = 32  # results of a slot whose upload or recording is under way; more would fill the disk


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What the slots of one slave share."""

    claims: Claims
    finishes: Finishes
    holdings: Holdings
    standing: Standing
    writer: Writer
    uploader: Uploader
    cache: BlobCache
    live: LiveOutput
    busy_retry: timedelta


class Slot:
    """Takes one entry after the other.

    1. Reserve. While the connection holds entries whose results are not recorded yet, only without waiting: an entry
    runs out of its time when nobody can touch it. 2. Claim: MySQL says whether it is ours to run. 3. Run. While a short
    one runs, the next is reserved and claimed. 4. Upload and record beside the next entry; then the entry is deleted.
    """

    def __init__(self, number: int, queue: Queue, runner: Runner, workshop: Workshop) -> None:
        self._queue = queue
        self._runner = runner
        self._shop = workshop
        self._unrecorded = _Count()
        self._next: Holding | None = None  # claimed while another one runs
        self._latest_seconds: float | None = None  # what the latest command took
        self.is_busy = False
        self._thread = threading.Thread(target=self._run, name=f"slot-{number}", daemon=True)

    def start(self) -> None:
        """Start the runner and the thread. Raises RunError."""
        self._runner.start()
        self._thread.start()

    def join(self, timeout_seconds: float | None = None) -> bool:
        """Wait for the slot to end after its slave began to leave; False when it has not."""
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Close what the slot used. Its thread has ended."""
        self._runner.close()
        self._queue.close()

    def _run(self) -> None:
        while not self._shop.standing.leaving.is_set():
            try:
                self._step()
            except (DatabaseUnavailable, QueueUnavailable) as exc:
                logger.warning("Waiting: %s", exc, extra={"action": "server_away"})
                self._pause()
            except Exception:  # a slot that ends would be a slot lost until somebody looks
                logger.exception("A slot failed; it goes on with the next entry")
                self._pause()
        self._drop_next(Stop.HANDED_BACK)

    def _step(self) -> None:
        if self._next is not None:
            self._go_on(self._next)
            return
        if not self._unrecorded.wait_below(MAX_UNRECORDED, timeout_seconds=PAUSE_SECONDS):
            return
        if not self._shop.standing.may_reserve():
            self._pause()
            return
        reservation = self._reserve()
        if reservation is None:
            return
        # Before the look at the drain: the heartbeat, which learns of a drain and then asks who is busy, must not call
        # a slave drained that is about to claim.
        self.is_busy = True
        try:
            if self._shop.standing.is_draining:  # since we began to wait for an entry
                self._give_back(reservation, delay_seconds=0)
            else:
                self._take(reservation)
        finally:
            self.is_busy = False

    def _go_on(self, holding: Holding) -> None:
        """Run what was claimed ahead, or hand it back."""
        self.is_busy = True
        try:
            if self._shop.standing.is_draining:
                self._drop_next(Stop.HANDED_BACK)
            else:
                self._next = None
                holding.begin()
                self._work(holding)
        finally:
            self.is_busy = False

    def _reserve(self, *, ahead: bool = False) -> Reservation | None:
        may_wait = self._unrecorded.value == 0 and not ahead
        try:
            reservation = self._queue.reserve(timeout_seconds=IDLE_SECONDS if may_wait else 0)
        except DeadlineSoon:
            self._touch_all()
            return None
        if reservation is None and not may_wait and not ahead:
            self._unrecorded.wait_below(1, timeout_seconds=PAUSE_SECONDS)
        return reservation

    def _touch_all(self) -> None:
        for holding in self._shop.holdings.all():
            if holding.queue is self._queue:
                _ignore_gone(lambda reservation=holding.reservation: self._queue.touch(reservation))  # type: ignore[misc]  # bound now

    def _take(self, reservation: Reservation) -> None:
        holding = self._hold(reservation)
        if holding is not None:
            self._work(holding)

    def _hold(self, reservation: Reservation) -> Holding | None:
        """Claim what was reserved; None, with the entry seen to, when it is not ours to run."""
        try:
            entry = QueueEntry.from_body(reservation.body)
        except InvalidJob as exc:
            logger.error("Deleted junk from the queue: %s", exc, extra={"action": "junk_deleted"})
            _ignore_gone(lambda: self._queue.finish(reservation))
            return None
        try:
            claim = self._claim(entry, reservation)
        except DatabaseUnavailable:
            self._give_back(reservation, delay_seconds=1)
            raise
        if claim is None:
            return None
        holding = Holding(entry=entry, queue=self._queue, reservation=reservation, claim=claim)
        self._shop.holdings.add(holding)
        return holding

    def _claim(self, entry: QueueEntry, reservation: Reservation) -> Claim | None:
        if self._shop.claims.must_avoid(entry):
            self._give_back(reservation, delay_seconds=AVOID_SECONDS)
            return None
        claim = self._shop.claims.claim(entry)
        if isinstance(claim, Claim):
            return claim
        if claim is Refusal.LEASED:
            self._give_back(reservation, delay_seconds=round(self._shop.busy_retry.total_seconds()))
            return None
        if claim is Refusal.POISON and self._shop.finishes.record_lost(entry):
            logger.error("Gave %s up: it outlived too many slaves", entry.name, extra={"action": "lost"})
        _ignore_gone(lambda: self._queue.finish(reservation))
        return None

    def _work(self, holding: Holding) -> None:
        try:
            ran = run_attempt(holding, self._shop.cache, self._runner, meanwhile=lambda: self._look_ahead(holding))
        except BaseException:
            self._shop.holdings.remove(holding)
            raise
        if isinstance(ran, RunResult):
            self._latest_seconds = ran.duration.total_seconds()
        self._hand_on(holding, ran)

    def _look_ahead(self, running: Holding) -> float | None:
        """Called while an attempt runs; gives the seconds until the next call. Never in the way of what runs."""
        try:
            return self._claim_ahead(running)
        except (DatabaseUnavailable, QueueUnavailable) as exc:
            logger.debug("Nothing is claimed ahead: %s", exc)
        except Exception:  # whatever it is, what runs must end as it would
            logger.exception("Nothing is claimed ahead")
        return None

    def _claim_ahead(self, running: Holding) -> float | None:
        """Claim the next attempt if the running one is short; hand it back when that one was not."""
        if self._next is not None:
            self._drop_next(Stop.NOT_BEGUN)
            return None
        # Longest first: a task that nobody knows takes about what the one before it took.
        expected = running.entry.expected_seconds or self._latest_seconds
        if expected is None or expected > SHORT_SECONDS or self._unrecorded.value >= MAX_UNRECORDED:
            return None
        reservation = self._reserve(ahead=True) if self._shop.standing.may_reserve() else None
        if reservation is not None:
            self._next = self._hold(reservation)
        return SHORT_SECONDS if self._next is not None else None

    def _drop_next(self, why: Stop) -> None:
        holding, self._next = self._next, None
        if holding is None:
            return
        holding.stop(why)  # without effect on one that was canceled or taken meanwhile
        try:
            self._drop(holding, None)
        except (DatabaseUnavailable, QueueUnavailable) as exc:
            logger.warning("%s waits until its lease lapses: %s", holding.entry.name, exc)

    def _hand_on(self, holding: Holding, ran: RunResult | SetupFailure | None) -> None:
        if holding.stopped is not None:
            STOPPED.labels(holding.stopped.name.lower()).inc()
            self._drop(holding, ran)
        elif isinstance(ran, SetupFailure):
            ATTEMPTS.labels(Outcome.SETUP_FAILED.value).inc()
            self._shop.standing.setup_failed(ran.reason)
            self._record(holding, setup_failed(holding, ran))
        elif ran is not None:
            ATTEMPTS.labels(ran.outcome).inc()
            self._shop.live.ended(holding, ran)
            self._shop.standing.set_up()
            self._upload(holding, ran)

    def _upload(self, holding: Holding, ran: RunResult) -> None:
        self._unrecorded.add(1)

        def record(uploaded: Uploaded) -> None:
            result = _result(holding, ran, uploaded)
            self._shop.writer.put(Finished(holding=holding, result=result, done=lambda: self._recorded(holding, ran)))

        self._shop.uploader.submit(holding, ran, record)

    def _record(self, holding: Holding, result: Result) -> None:
        self._unrecorded.add(1)
        self._shop.writer.put(Finished(holding=holding, result=result, done=lambda: self._recorded(holding, None)))

    def _recorded(self, holding: Holding, ran: RunResult | None) -> None:
        _ignore_gone(lambda: self._queue.finish(holding.reservation))
        if ran is not None:
            ran.discard()
        self._unrecorded.add(-1)

    def _drop(self, holding: Holding, ran: RunResult | SetupFailure | None) -> None:
        """Forget an attempt that was stopped: canceled, taken by another slave, or to be handed back."""
        if isinstance(ran, RunResult):
            ran.discard()
        self._shop.holdings.remove(holding)
        if holding.stopped is Stop.CANCELED:
            _ignore_gone(lambda: self._queue.finish(holding.reservation))
        elif holding.stopped in _RELEASED:
            self._shop.claims.release(holding.claim, _RELEASED[holding.stopped])
            self._give_back(holding.reservation, delay_seconds=0)
        else:
            # Taken: whoever holds the claim now sees to the attempt, and to an entry that is still ours.
            self._give_back(holding.reservation, delay_seconds=1)

    def _give_back(self, reservation: Reservation, *, delay_seconds: int) -> None:
        def release() -> None:
            priority = self._queue.priority_of(reservation)
            self._queue.release(reservation, priority=priority, delay_seconds=delay_seconds)

        _ignore_gone(release)

    def _pause(self) -> None:
        self._shop.standing.leaving.wait(PAUSE_SECONDS)


def _result(holding: Holding, ran: RunResult, uploaded: Uploaded) -> Result:
    try:
        return result_of(holding, ran, uploaded)
    except Exception:  # whatever it is that cannot be said of it, the verdict must be recorded
        logger.exception("Recording the bare verdict on %s", holding.entry.name)
        outcome = Outcome(ran.outcome)
        return Result(claim=holding.claim, outcome=outcome, task=holding.entry.task, exit_status=ran.exit_status)


class _Count:
    """A number that a thread can wait for."""

    def __init__(self) -> None:
        self.value = 0
        self._changed = threading.Condition()

    def add(self, difference: int) -> None:
        with self._changed:
            self.value += difference
            self._changed.notify_all()

    def wait_below(self, limit: int, *, timeout_seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.value < limit, timeout_seconds)


def _ignore_gone(act: Callable[[], None]) -> None:
    try:
        act()
    except (QueueEntryGone, QueueUnavailable) as exc:
        # Whoever reserves the entry next finds in MySQL what is true about it.
        logger.debug("The queue entry is not ours any more: %s", exc)
