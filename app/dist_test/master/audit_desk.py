"""Audits for whoever asks over HTTP: within bounds, so that no thread of the master is held for long."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from dist_test.errors import AuditInProgress, AuditTooLarge, JobNotFound
from dist_test.master.audit import Auditor, Report, chosen, ownerless_entries
from dist_test.storage.database import Database
from dist_test.storage.jobs import JobRecord, Jobs
from dist_test.storage.queue import Queue, Queues

MOST_ATTEMPTS = 250_000  # of a job: MySQL takes seconds to compare so many
MOST_ASKED = 10_000  # entries of a job, a second of beanstalkd's time
MOST_SECONDS = 5.0  # after which no other job is begun


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The reports on some jobs; the ids of those that were left out, which have to be asked for one by one."""

    reports: tuple[Report, ...]
    left_out: tuple[str, ...]
    ownerless: int

    @property
    def is_clean(self) -> bool:
        """Whether no breach was found in what was looked at."""
        return not any(report.breaches for report in self.reports)


class AuditDesk:
    """Audits in one process, one at a time. Safe to share between threads."""

    def __init__(
        self, database: Database, queues: Queues, *, grace: timedelta, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._jobs = Jobs(database)
        self._queues = queues
        self._grace = grace
        self._clock = clock
        self._lock = threading.Lock()

    def one(self, job_id: str) -> Audit:
        """Audit a job. Raises JobNotFound, AuditTooLarge, AuditInProgress."""
        job = self._jobs.get(job_id)
        if _is_too_large(job):
            raise AuditTooLarge(
                f"job {job_id} has {job.counters.total_attempts:,} attempts; to audit more than {MOST_ATTEMPTS:,},"
                f" run on a master's host: dist-test-master audit {job_id}"
            )
        with self._alone() as queue:
            report = self._auditor(queue).audit(job.job_key)
            return Audit(reports=(report,), left_out=(), ownerless=ownerless_entries(self._jobs, queue))

    def all(self) -> Audit:
        """Audit what runs and the last hundred, as many as there is time for. Raises AuditInProgress."""
        with self._alone() as queue:
            reports, left_out = self._reports(self._auditor(queue), chosen(self._jobs))
            return Audit(
                reports=tuple(reports), left_out=tuple(left_out), ownerless=ownerless_entries(self._jobs, queue)
            )

    def _reports(self, auditor: Auditor, jobs: list[JobRecord]) -> tuple[list[Report], list[str]]:
        until = self._clock() + MOST_SECONDS
        reports, left_out = [], []
        for job in jobs:
            if _is_too_large(job) or self._clock() > until:
                left_out.append(job.job_id)
                continue
            try:
                reports.append(auditor.audit(job.job_key))
            except JobNotFound:  # pruned since it was listed
                continue
        return reports, left_out

    def _auditor(self, queue: Queue) -> Auditor:
        return Auditor(self._database, queue, grace=self._grace, most_asked=MOST_ASKED)

    @contextmanager
    def _alone(self) -> Iterator[Queue]:
        if not self._lock.acquire(blocking=False):
            raise AuditInProgress("this master audits for somebody else at the moment; ask again")
        try:
            with self._queues.borrow() as queue:
                yield queue
        finally:
            self._lock.release()


def _is_too_large(job: JobRecord) -> bool:
    return job.counters.total_attempts > MOST_ATTEMPTS
