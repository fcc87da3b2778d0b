"""Prove that nothing of a job is lost: tasks = ended + running under a live lease + queued and in beanstalkd."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby

from dist_test.master.service import absent
from dist_test.model.group import Ending, ending
from dist_test.model.outcome import Outcome
from dist_test.model.summary import AttemptRecord, recount
from dist_test.model.task import AttemptKey
from dist_test.settings import MasterSettings
from dist_test.storage.audits import AuditedAttempt, AuditedJob, Audits
from dist_test.storage.database import Database
from dist_test.storage.entries import Entries
from dist_test.storage.jobs import JobRecord, Jobs
from dist_test.storage.queue import Queue

RECENT_JOBS = 100


@dataclass(frozen=True, kw_only=True)
class Breach:
    """Something about a job that cannot be true; `key` is None when it concerns the job as a whole."""

    reason: str
    key: AttemptKey | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an audit found about one job. The first four numbers add up when nothing is lost."""

    job_id: str
    tasks: int
    ended: int
    running: int
    queued: int
    breaches: tuple[Breach, ...]

    def __str__(self) -> str:
        verdict = "clean" if not self.breaches else f"{len(self.breaches)} breaches"
        return (
            f"{self.job_id}: {self.tasks} tasks = {self.ended} ended + {self.running} running"
            f" + {self.queued} queued: {verdict}"
        )


class Auditor:
    """Audits jobs against MySQL and beanstalkd."""

    def __init__(self, database: Database, queue: Queue, *, grace: timedelta) -> None:
        """`grace`: how long an attempt may wait for its entry, as a retry does until its slave has asked for it."""
        self._audits = Audits(database)
        self._entries = Entries(database, actor="audit")
        self._queue = queue
        self._grace = grace

    def audit(self, job_key: int) -> Report:
        """Audit one job. What changes while it is read is looked at again before it counts as a breach."""
        job = self._audits.read(job_key)
        last = [list(group)[-1] for _, group in groupby(job.attempts, key=lambda attempt: attempt.key.task)]
        waiting = [attempt for attempt in last if attempt.outcome is None and not attempt.is_leased]
        lost = [] if job.state == "submitting" else self._lost(job_key)
        return Report(
            job_id=job.job_id,
            tasks=job.counters.total_tasks,
            ended=sum(attempt.outcome is not None for attempt in last),
            running=sum(attempt.outcome is None and attempt.is_leased for attempt in last),
            queued=len(waiting) - len(lost),
            breaches=(
                *check(job, last),
                *(Breach(key=key, reason="it waits, but is not in the queue") for key in lost),
            ),
        )

    def chain(self, key: AttemptKey) -> Iterator[str]:
        """What happened to an attempt, a line for each event."""
        for event in self._audits.events(key):
            at = f"{event.at:%Y-%m-%d %H:%M:%S.%f}" if event.at else ""
            numbers = f" claim {event.claim}" if event.claim is not None else ""
            numbers += f" delivery {event.delivery}" if event.delivery is not None else ""
            yield f"{at} {event.kind} by {event.actor}{numbers} {event.detail or ''}".rstrip()

    def _lost(self, job_key: int) -> list[AttemptKey]:
        """Waiting attempts without an entry, looked at twice: a slave may take one between two looks."""
        pages = self._entries.waiting_of_job(job_key, older_than=self._grace)
        suspects = [item.entry.key for page in pages for item in absent(page, self._queue)]
        again = [item for key in suspects if (item := self._entries.find(key)) is not None]
        return [item.entry.key for item in absent(again, self._queue)]


def check(job: AuditedJob, last: list[AuditedAttempt]) -> Iterator[Breach]:
    """What is wrong with a job by its rows alone. `last` is the last attempt of each task. PURE."""
    records = [
        AttemptRecord(index=attempt.key.task, attempt=attempt.key.attempt, outcome=attempt.outcome)
        for attempt in job.attempts
    ]
    counted = recount(records)
    if job.state != "submitting" and counted != job.counters:
        yield Breach(reason=f"its counters are {job.counters}, a recount gives {counted}")
    if (job.state == "finished") != (job.counters.is_finished and job.state != "submitting"):
        yield Breach(reason=f"its state is {job.state} with {job.counters.finished_tasks} tasks finished")
    for attempt in last:
        if _lacks_retry(attempt, job):
            yield Breach(key=attempt.key, reason=f"it ended {attempt.outcome}, and the next attempt is missing")
    for attempt in job.attempts:
        if attempt.finishes != _finishes_due(attempt):
            yield Breach(key=attempt.key, reason=f"it was finished {attempt.finishes} times")


def _lacks_retry(attempt: AuditedAttempt, job: AuditedJob) -> bool:
    if attempt.outcome is None or job.is_canceled:
        return False
    return ending(attempt.outcome, attempt.history, max_retries=attempt.max_retries) is Ending.RETRY


def _finishes_due(attempt: AuditedAttempt) -> int:
    # A cancel is one event for the whole job.
    return 0 if attempt.outcome in (None, Outcome.CANCELED) else 1


def run_audit(settings: MasterSettings, job_id: str | None, say: Callable[[str], None]) -> int:
    """Audit one job, or all that run and the last hundred; print what was found. Gives the exit status: 1 on a breach.

    Raises JobNotFound, DatabaseUnavailable, QueueUnavailable.
    """
    database, queue = Database(settings.mysql), Queue(settings.beanstalk)
    try:
        database.check_schema()
        auditor = Auditor(database, queue, grace=settings.queued_grace)
        reports = [_say_report(auditor, job, say) for job in _chosen(Jobs(database), job_id)]
    finally:
        queue.close()
        database.close()
    return int(any(report.breaches for report in reports))


def _chosen(jobs: Jobs, job_id: str | None) -> list[JobRecord]:
    if job_id is not None:
        return [jobs.get(job_id)]
    chosen = {job.job_key: job for job in (*jobs.by_state("running"), *jobs.recent(limit=RECENT_JOBS))}
    return [chosen[key] for key in sorted(chosen)]


def _say_report(auditor: Auditor, job: JobRecord, say: Callable[[str], None]) -> Report:
    report = auditor.audit(job.job_key)
    say(str(report))
    for breach in report.breaches:
        say(f"  {f'task {breach.key.task} attempt {breach.key.attempt}: ' if breach.key else ''}{breach.reason}")
        for line in auditor.chain(breach.key) if breach.key else ():
            say(f"    {line}")
    return report
