"""Audit in the background, one job at a time and little of it: beside the reconciler, by the one who leads."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from prometheus_client import Gauge

from dist_test.errors import JobNotFound
from dist_test.master.audit import Auditor, chosen
from dist_test.master.audit_desk import MOST_ASKED
from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.jobs import Jobs
from dist_test.storage.queue import Queues

logger = logging.getLogger(__name__)

REST = 20  # times as long as the last audit took: at most a twentieth of one core of MySQL's host

# What the last process that led has found: of all processes of a master, the one that wrote last.
BREACHES = Gauge("dist_test_audit_breaches", "Breaches in the last audit of each job.", multiprocess_mode="mostrecent")
JOBS = Gauge("dist_test_audit_jobs", "Jobs whose last audit is counted.", multiprocess_mode="mostrecent")
AT = Gauge("dist_test_audit_timestamp_seconds", "When the last audit of a job ended.", multiprocess_mode="mostrecent")


class Leader(Protocol):
    """Says whether we are the one to act."""

    def holds(self) -> bool: ...


class AuditTurns:
    """The audits of one master: all that run and the last hundred jobs, round and round."""

    def __init__(
        self,
        settings: MasterSettings,
        database: Database,
        queues: Queues,
        leader: Leader,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grace = settings.queued_grace
        self._database = database
        self._jobs = Jobs(database)
        self._queues = queues
        self._leader = leader
        self._clock = clock
        self._due: list[int] = []
        self._found: dict[int, int] = {}  # breaches, by job_key
        self._rests_until = 0.0

    def turn(self) -> None:
        """Audit the next job, if we lead and the last audit is long enough ago.

        Raises DatabaseUnavailable, QueueUnavailable.
        """
        if not self._leader.holds():
            self._due, self._found = [], {}
            return
        if self._clock() < self._rests_until:
            return
        if not self._due:
            self._due = [job.job_key for job in reversed(chosen(self._jobs))]
            self._found = {key: number for key, number in self._found.items() if key in self._due}
        if self._due:
            started = self._clock()
            self._audit(self._due.pop())
            self._rests_until = self._clock() + REST * (self._clock() - started)
        self._publish()

    def _audit(self, job_key: int) -> None:
        with self._queues.borrow() as queue:
            try:
                report = Auditor(self._database, queue, grace=self._grace, most_asked=MOST_ASKED).audit(job_key)
            except JobNotFound:  # pruned since it was listed
                self._found.pop(job_key, None)
                return
        self._found[job_key] = len(report.breaches)
        if report.breaches:
            logger.error(
                "%s; the first: %s. For all of them run: dist-test-master audit %s",
                report,
                report.breaches[0].reason,
                report.job_id,
                extra={"action": "audit_breach"},
            )

    def _publish(self) -> None:
        BREACHES.set(sum(self._found.values()))
        JOBS.set(len(self._found))
        AT.set_to_current_time()
