"""Prove that nothing of a job is lost: tasks = ended + running under a live lease + queued and in beanstalkd."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

from dist_test.errors import JobNotFound
from dist_test.master.service import absent
from dist_test.model.task import AttemptKey
from dist_test.settings import MasterSettings
from dist_test.storage.audits import MOST_OF_A_KIND, AuditedJob, Audits
from dist_test.storage.database import Database
from dist_test.storage.entries import Entries, Queued
from dist_test.storage.events import Event
from dist_test.storage.jobs import JobRecord, Jobs
from dist_test.storage.queue import Queue

RECENT_JOBS = 100
# The reconciler frees what a silent slave holds after one grace. Past so many, it has failed to.
GRACES_TO_LAPSE = 4
SECOND_LOOK_SECONDS = 2.0  # a slave claims within milliseconds of a reserve, or holds it for a second (prefetch)


@dataclass(frozen=True, kw_only=True)
class Breach:
    """Something about a job that cannot be true; `key` is None when it concerns the job as a whole.

    `chain` is what happened to the attempt, oldest first.
    """

    reason: str
    key: AttemptKey | None = None
    chain: tuple[Event, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an audit found about one job. The first four numbers add up when nothing is lost.

    `unasked` of the queued ones were taken on trust: beanstalkd was not asked about their entries.
    """

    job_id: str
    tasks: int
    ended: int
    running: int
    queued: int
    unasked: int
    breaches: tuple[Breach, ...]

    @property
    def unaccounted(self) -> int:
        """The tasks that are nowhere: 0 when nothing is lost."""
        return self.tasks - self.ended - self.running - self.queued

    def __str__(self) -> str:
        number = len(self.breaches)
        verdict = "clean" if not number else f"{number} breach{'' if number == 1 else 'es'}"
        trusted = f" ({self.unasked} of them not looked for in the queue)" if self.unasked else ""
        missing = f" + {self.unaccounted} unaccounted for" if self.unaccounted else ""
        return (
            f"{self.job_id}: {self.tasks} tasks = {self.ended} ended + {self.running} running"
            f" + {self.queued} queued{trusted}{missing}: {verdict}"
        )


class Auditor:
    """Audits jobs against MySQL and beanstalkd."""

    def __init__(
        self,
        database: Database,
        queue: Queue,
        *,
        grace: timedelta,
        most_asked: int | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`grace`: how long an attempt may wait for its entry, as a retry does until its slave has asked for it.

        `most_asked`: about so many entries of a job beanstalkd is asked at most; None for all.
        """
        self._audits = Audits(database)
        self._entries = Entries(database, actor="audit")
        self._queue = queue
        self._grace = grace
        self._most_asked = most_asked
        self._sleep = sleep

    def audit(self, job_key: int) -> Report:
        """Audit one job. What changes while it is read is looked at again before it counts as a breach.

        Raises JobNotFound, DatabaseUnavailable, QueueUnavailable.
        """
        job = self._audits.read(job_key)
        if job is None:
            raise JobNotFound(f"the job with the key {job_key} is gone")
        asked, lost = (0, []) if job.state == "submitting" else self._lost(job)
        breaches = (
            *check(job),
            *_breaches_of_lost(lost),
            *(Breach(key=key, reason=reason) for key, reason in self._held(job)),
        )
        return Report(
            job_id=job.job_id,
            tasks=job.counters.total_tasks,
            ended=job.ended,
            running=job.running,
            queued=job.waiting - len(lost),
            unasked=max(0, job.waiting - asked) if asked == self._most_asked else 0,
            breaches=tuple(self._explained(breach) for breach in breaches),
        )

    def _lost(self, job: AuditedJob) -> tuple[int, list[AttemptKey]]:
        """How many entries were asked for, and the waiting attempts without one.

        Looked at twice: a slave may take one between two looks.
        """
        asked, suspects = 0, []
        for page in self._entries.waiting_of_job(job.job_key, older_than=self._grace):
            looked_at = page if self._most_asked is None else page[: self._most_asked - asked]
            asked += len(looked_at)
            suspects += [item.entry.key for item in absent(looked_at, self._queue)]
            if asked == self._most_asked:
                break
        again = self._entries.find_all(suspects)
        return asked, sorted(item.entry.key for item in absent(again, self._queue))

    def _held(self, job: AuditedJob) -> list[tuple[AttemptKey, str]]:
        """The attempts whose lease ended long ago and whose entry nobody else can have, as somebody still holds it."""
        longer_than = GRACES_TO_LAPSE * self._grace
        suspects = self._still_held(self._entries.lapsed(longer_than=longer_than, job_key=job.job_key))
        if not suspects:
            return []
        self._sleep(SECOND_LOOK_SECONDS)
        found = {item.entry.key for item in suspects}
        again = self._still_held(self._entries.lapsed(longer_than=longer_than, job_key=job.job_key))
        reason = f"its lease ended more than {longer_than.total_seconds():g} s ago, and its entry is held all the same"
        return [(item.entry.key, reason) for item in again if item.entry.key in found]

    def _still_held(self, lapsed: Sequence[Queued]) -> list[Queued]:
        return [item for item in lapsed if item.place is not None and self._queue.is_reserved(item.place.entry)]

    def _explained(self, breach: Breach) -> Breach:
        if breach.key is None:
            return breach
        return Breach(reason=breach.reason, key=breach.key, chain=tuple(self._audits.events(breach.key)))


def _breaches_of_lost(lost: Sequence[AttemptKey]) -> Iterator[Breach]:
    for key in lost[:MOST_OF_A_KIND]:
        yield Breach(key=key, reason="it waits, but is not in the queue")
    if len(lost) > MOST_OF_A_KIND:
        # All of them at once after the loss of beanstalkd's disk: until the reconciler's round.
        yield Breach(reason=f"{len(lost):,} attempts in all wait, but are not in the queue")


def check(job: AuditedJob) -> list[Breach]:
    """What is wrong with a job by its rows alone. PURE."""
    found = []
    if job.state != "submitting" and job.recounted != job.counters:
        found.append(Breach(reason=f"its counters are {job.counters}, a recount gives {job.recounted}"))
    if (job.state == "finished") != (job.counters.is_finished and job.state != "submitting"):
        found.append(Breach(reason=f"its state is {job.state} with {job.counters.finished_tasks} tasks finished"))
    return found + [Breach(reason=one.reason, key=one.key) for one in job.contradictions]


def run_audit(settings: MasterSettings, job_id: str | None, say: Callable[[str], None]) -> int:
    """Audit one job, or all that run and the last hundred; print what was found. Gives the exit status: 1 on a breach.

    Raises JobNotFound, DatabaseUnavailable, QueueUnavailable.
    """
    with closing(Database(settings.mysql)) as database, closing(Queue(settings.beanstalk)) as queue:
        database.check_schema()
        jobs = Jobs(database)
        auditor = Auditor(database, queue, grace=settings.queued_grace)
        is_clean = True
        for job in [jobs.get(job_id)] if job_id is not None else chosen(jobs):
            report = auditor.audit(job.job_key)
            is_clean = is_clean and not report.breaches
            _say_report(report, say)
        ownerless = ownerless_entries(jobs, queue)
        if ownerless:
            entries = "entry in the queue is" if ownerless == 1 else "entries in the queue are"
            say(f"{ownerless} {entries} of no attempt that is to be run; a slave that meets one deletes it")
    return 0 if is_clean else 1


def chosen(jobs: Jobs) -> list[JobRecord]:
    """What is audited when nobody names a job: all that run and the last hundred, oldest first."""
    found = {job.job_key: job for job in (*jobs.by_state("running"), *jobs.recent(limit=RECENT_JOBS))}
    return [found[key] for key in sorted(found)]


def ownerless_entries(jobs: Jobs, queue: Queue) -> int:
    """How many entries there are at least in the tube beyond one for each unfinished attempt: void, or not ours.

    As many losses may hide behind them from the tube's totals, until the reconciler's sweep. Entries of what has ended
    this moment count as well.
    """
    before = jobs.unfinished()
    totals = queue.statistics()
    # Jobs come and attempts end meanwhile: neither shall look like junk.
    return max(0, totals.waiting_or_held + totals.buried - max(before, jobs.unfinished()))


def describe(event: Event) -> str:
    """An event as a line. PURE."""
    at = f"{event.at:%Y-%m-%d %H:%M:%S.%f}" if event.at else ""
    numbers = f" claim {event.claim}" if event.claim is not None else ""
    numbers += f" delivery {event.delivery}" if event.delivery is not None else ""
    return f"{at} {event.kind} by {event.actor}{numbers} {event.detail or ''}".rstrip()


def _say_report(report: Report, say: Callable[[str], None]) -> None:
    say(str(report))
    for breach in report.breaches:
        say(f"  {f'task {breach.key.task} attempt {breach.key.attempt}: ' if breach.key else ''}{breach.reason}")
        for event in breach.chain:
            say(f"    {describe(event)}")
