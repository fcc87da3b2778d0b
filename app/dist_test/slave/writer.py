"""The slave's writer: records results in batches, deletes their queue entries, and asks for the retries."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from dist_test.errors import DatabaseUnavailable, DistTestError
from dist_test.slave.holdings import Holding, Holdings
from dist_test.storage.finishes import Finishes, Result

logger = logging.getLogger(__name__)

MAX_BATCH = 200  # rows in one transaction: more gains nothing (performance.md)
# Between the starts of two transactions. A writer that was idle writes at once; a busy one shares the cost of locks and
# commits among what has finished meanwhile, instead of a transaction for each short task.
INTERVAL_SECONDS = 0.05
LEARN_SECONDS = 1.0  # between two writes of the history of durations, beside the results
PAUSE_SECONDS = 2.0


class RetryAsker(Protocol):
    """Asks the master to queue the attempt after a failed one."""

    def ask(self, holding: Holding) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A result to record, and what to call once it is: it deletes the entry and removes the result's files."""

    holding: Holding
    result: Result
    done: Callable[[], None]


class Writer:
    """One thread that writes whatever is finished, at once when it is idle, never waiting to fill a batch.

    While the database is away results are held and tried again: the heartbeat stops tasks whose lease cannot be
    renewed, and a result under a claim that was lost meanwhile changes nothing.
    """

    def __init__(
        self,
        finishes: Finishes,
        holdings: Holdings,
        retries: RetryAsker,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        """`pause_seconds`: between two tries while the database is away."""
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._finishes = finishes
        self._holdings = holdings
        self._retries = retries
        self._asker = ThreadPoolExecutor(max_workers=2, thread_name_prefix="retry")
        self._waiting: queue.SimpleQueue[Finished | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, finished: Finished) -> None:
        """Record this when it is its turn."""
        self._waiting.put(finished)

    def stop(self, *, timeout_seconds: float | None = None) -> bool:
        """Write what is waiting and stop; False when that took longer than the timeout and some was given up."""
        self._stopping.set()
        self._waiting.put(None)
        self._thread.join(timeout_seconds)
        is_done = not self._thread.is_alive()
        self._given_up.set()
        self._asker.shutdown(wait=is_done, cancel_futures=not is_done)
        return is_done

    def _run(self) -> None:
        next_learning = self._clock() + LEARN_SECONDS
        is_last = False
        while not is_last:
            batch, is_last = self._next_batch()
            if batch:
                began = self._clock()
                self._write(batch)
                self._stopping.wait(max(0.0, began + INTERVAL_SECONDS - self._clock()))
            if is_last or self._clock() >= next_learning:
                self._learn()
                next_learning = self._clock() + LEARN_SECONDS

    def _next_batch(self) -> tuple[list[Finished], bool]:
        batch: list[Finished] = []
        try:
            finished = self._waiting.get(timeout=LEARN_SECONDS)
        except queue.Empty:
            return batch, False
        while finished is not None:
            batch.append(finished)
            if len(batch) == MAX_BATCH:
                return batch, False
            try:
                finished = self._waiting.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _write(self, batch: Sequence[Finished]) -> None:
        while not self._given_up.is_set():
            try:
                return self._record(batch)
            except DatabaseUnavailable as exc:
                logger.warning("Holding %d results: %s", len(batch), exc, extra={"action": "results_held"})
            except Exception:  # one odd result must not end the writing of all others
                logger.exception("Could not record %d results", len(batch), extra={"action": "record_failed"})
                return self._give_up(batch)
            self._given_up.wait(self._pause_seconds)
        return None

    def _give_up(self, batch: Sequence[Finished]) -> None:
        """Find the one result of a batch that cannot be recorded, and let it go: its attempt runs again."""
        if len(batch) > 1:
            for finished in batch:
                self._write([finished])
            return
        logger.error("Gave the result of %s up: it runs again when its lease lapses", batch[0].holding.entry.name)
        self._let_go(batch)

    def _record(self, batch: Sequence[Finished]) -> None:
        recorded = self._finishes.record([finished.result for finished in batch])
        self._let_go(batch)
        by_claim = {finished.result.claim: finished.holding for finished in batch}
        for claim in recorded.retried:
            self._asker.submit(self._ask, by_claim[claim])

    def _learn(self) -> None:
        try:
            self._finishes.learn()
        except Exception:  # the history may lose some; the writer must go on
            logger.exception("Some durations were not learned", extra={"action": "learning_lost"})

    def _let_go(self, batch: Sequence[Finished]) -> None:
        for finished in batch:
            self._holdings.remove(finished.holding)
            try:
                finished.done()
            except Exception:  # what is left to clean up of one result must not hold up the others
                logger.exception("Could not clean up after %s", finished.holding.entry.name)

    def _ask(self, holding: Holding) -> None:
        try:
            self._retries.ask(holding)
        except DistTestError as exc:
            # The retry's row is there; the reconciler will put it.
            logger.warning("The retry of %s has to wait: %s", holding.entry.name, exc, extra={"action": "retry_late"})
