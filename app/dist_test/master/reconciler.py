"""Mend what a crash left between two steps. One master does it at a time; every repair is logged, counted and audited.

Each round:
1. Complete submits whose master died, or remove them when their tasks were never stored.
2. Cancel what is left of jobs that have too many failures, or whose cancel was cut off.
3. Put again what a slave that fell silent still holds in the tube. beanstalkd 1.12 may forget the end of a reservation
   that was touched (its issues 262 and 380): then only the end of the connection frees it, and that of a frozen machine
   does not end.
4. Compare the tube's totals with the unfinished attempts. A shortfall in two rounds running, or another beanstalkd
   than before, makes it ask about every waiting attempt; otherwise only about a slice, so that all have had their turn
   after `sweep_every`. What is missing from the tube is put again, at its priority, under a new delivery.

5. Remove the live logs that nobody looks at any more.

Entries that are junk can hide as many losses from the totals until the sweep comes by.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from prometheus_client import Counter

from dist_test.errors import (
    DatabaseRefused,
    DistTestError,
    InvalidJob,
    JobNotRunning,
    QueueEntryTooBig,
    SubmitInProgress,
)
from dist_test.master.audit_turns import AuditTurns, Leader
from dist_test.master.service import Service, absent
from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.entries import PAGE, Queued
from dist_test.storage.leader import Leadership
from dist_test.storage.queue import Queue, Queues, TubeStatistics
from dist_test.storage.submissions import Abandoned

logger = logging.getLogger(__name__)

DISCARD_AFTER = timedelta(minutes=10)  # long after any client has stopped repeating its submit

REPAIRS = Counter("dist_test_repairs", "What the reconciler has mended.", ["kind"])


class Reconciler:
    """The rounds of one master."""

    def __init__(self, settings: MasterSettings, service: Service, queues: Queues, leader: Leader) -> None:
        self._settings = settings
        self._service = service
        self._queues = queues
        self._leader = leader
        self._server: str | None = None
        self._short_before = False
        self._sweep: Iterator[list[Queued]] = iter(())

    def round(self) -> int:
        """Do one round, if we lead; say how many things were mended. Raises DatabaseUnavailable, QueueUnavailable."""
        if not self._leader.holds():
            return 0
        with self._queues.borrow() as queue:
            mended = self._mend_submits(queue) + self._mend_cancels() + self._mend_silence(queue)
            mended += self._mend_queue(queue)
        self._service.live_logs.remove_unwanted()
        return mended

    def _mend_submits(self, queue: Queue) -> int:
        return sum(
            _attempt(lambda abandoned=abandoned: self._mend_submit(abandoned, queue))  # type: ignore[misc]  # bound now
            for abandoned in self._service.submissions.lapsed()
        )

    def _mend_submit(self, abandoned: Abandoned, queue: Queue) -> bool:
        if not abandoned.has_tasks:
            if self._service.submissions.discard(abandoned, older_than=DISCARD_AFTER):
                _repaired("submit_discarded", f"Removed job {abandoned.job_id}: its tasks were never stored")
                return True
            return False
        submission = self._service.submissions.adopt(abandoned)
        if submission is None:  # its client, or another master, was faster
            return False
        try:
            self._service.enqueue(submission, queue)
        except SubmitInProgress:
            return False
        _repaired("submit_completed", f"Completed the submit of job {abandoned.job_id}")
        return True

    def _mend_cancels(self) -> int:
        mended = 0
        for job_id in self._service.cancels.half_canceled():
            try:
                self._service.cancel(job_id, "too many failures")
            except JobNotRunning:  # it ended by itself meanwhile
                continue
            _repaired("job_canceled", f"Canceled the rest of job {job_id}")
            mended += 1
        return mended

    def _mend_silence(self, queue: Queue) -> int:
        lapsed = self._service.entries.lapsed(longer_than=self._settings.queued_grace)
        held = [item for item in lapsed if item.place is not None and queue.is_reserved(item.place.entry)]
        if not held or not self._leader.holds():
            return 0
        count = _attempt(lambda: self._service.put_anew(held, queue, reason="its slave fell silent"))
        REPAIRS.labels("silence_ended").inc(count)
        return count

    def _mend_queue(self, queue: Queue) -> int:
        unfinished = sum(job.counters.unfinished_attempts for job in self._service.jobs.by_state("running"))
        totals = queue.statistics()
        if totals.buried:
            logger.warning("Making %d buried entries ready again", queue.kick(totals.buried))
        if self._must_ask_about_all(unfinished, totals):
            waiting = self._service.entries.waiting(older_than=self._settings.queued_grace)
            mended = sum(self._mend_page(page, queue) for page in waiting)
            self._sweep = iter(())
            return mended
        return sum(self._mend_page(page, queue) for page in self._slice(unfinished))

    def _must_ask_about_all(self, unfinished: int, totals: TubeStatistics) -> bool:
        is_short = totals.waiting_or_held < unfinished
        is_other_server = self._server is not None and self._server != totals.server
        must = (is_short and self._short_before) or is_other_server
        self._server, self._short_before = totals.server, is_short and not must
        return must

    def _slice(self, unfinished: int) -> Iterator[list[Queued]]:
        """As many pages of the slow sweep as are due in one round."""
        rounds = max(1.0, self._settings.sweep_every / self._settings.reconcile_every)
        pages_due = math.ceil(unfinished / PAGE / rounds)
        for _ in range(pages_due):
            page = next(self._sweep, None)
            if page is None:
                self._sweep = self._service.entries.waiting(older_than=self._settings.queued_grace)
                return
            yield page

    def _mend_page(self, page: Sequence[Queued], queue: Queue) -> int:
        missing = absent(page, queue)
        if not missing or not self._leader.holds():
            return 0
        reason = "it was missing from the queue"
        count = _attempt(lambda: self._service.put_anew(missing, queue, reason=reason))
        if count:
            REPAIRS.labels("entry_put_again").inc(count)
            logger.warning("Put %d attempts into the queue that were missing", count, extra={"action": "repaired"})
        return count


def _attempt(repair: Callable[[], int]) -> int:
    """Do one repair; what is in the way of this one must not be in the way of the next."""
    try:
        return repair()
    except (QueueEntryTooBig, DatabaseRefused, InvalidJob):
        logger.exception("A repair failed; the next round tries it again", extra={"action": "repair_failed"})
        return 0


def _repaired(kind: str, message: str) -> None:
    REPAIRS.labels(kind).inc()
    logger.warning(message, extra={"action": "repaired"})


class ReconcilerThread:
    """Rounds in the background of a master's worker process."""

    def __init__(self, settings: MasterSettings) -> None:
        self._every = settings.reconcile_every.total_seconds()
        self._database = Database(settings.mysql, pool_size=2)
        self._queues = Queues(settings.beanstalk)
        self._leader = Leadership(self._database, "reconciler")
        service = Service(settings, self._database, self._queues)
        self._reconciler = Reconciler(settings, service, self._queues, self._leader)
        self._audits = AuditTurns(settings, self._database, self._queues, self._leader)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the round and stop."""
        self._stopped.set()
        self._thread.join()
        self._leader.resign()
        self._queues.close()
        self._database.close()

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self._reconciler.round()
                self._audits.turn()
            except DistTestError as exc:
                logger.warning("A round was cut short: %s", exc, extra={"action": "round_failed"})
            except Exception:  # a round that fails in a way nobody thought of must not end all later ones
                logger.exception("A round failed")


def start(settings: MasterSettings) -> ReconcilerThread:
    """Start the rounds in this process; one process of all masters at a time really does them."""
    return ReconcilerThread(settings)
