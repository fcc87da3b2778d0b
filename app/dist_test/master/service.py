"""The master's rules, without HTTP: submit, cancel, retry. Any master may carry on what another one began."""

import logging
import os
import socket
from collections.abc import Sequence
from itertools import chain

from dist_test.errors import InvalidJob, JobNotRerun, QueueUnavailable, TaskNotFound
from dist_test.model import schedule
from dist_test.model.job import Job
from dist_test.model.outcome import Outcome
from dist_test.model.rerun import rerun_id
from dist_test.model.task import AttemptKey, QueueEntry, task_index
from dist_test.settings import MasterSettings
from dist_test.storage.attempt_lists import AttemptLists
from dist_test.storage.cancels import Canceled, Cancels
from dist_test.storage.database import Database
from dist_test.storage.entries import Entries, Place, Queued
from dist_test.storage.history import History
from dist_test.storage.job_lists import JobLists
from dist_test.storage.jobs import AttemptRecord, JobRecord, Jobs
from dist_test.storage.live_logs import LiveLogs
from dist_test.storage.promotions import Promoted, Promotions
from dist_test.storage.queue import Queue, Queues
from dist_test.storage.slaves import Slaves
from dist_test.storage.submissions import Submission, Submissions
from dist_test.storage.traces import Traces

logger = logging.getLogger(__name__)

LARGEST_NUMBERS = AttemptKey(2**62, 2**31, 2**15)
ROOM_FOR_SLAVE_NAMES = 2048  # in a retry's entry: those on which it has failed
PAGE = 1000


class Service:
    """What a master does. Safe to share between threads."""

    def __init__(self, settings: MasterSettings, database: Database, queues: Queues) -> None:
        actor = f"master:{socket.gethostname()}:{os.getpid()}"
        self._queues = queues
        self._setup_retry_seconds = settings.setup_retry_seconds
        self.jobs = Jobs(database)
        self.job_lists = JobLists(database)
        self.attempts = AttemptLists(database)
        self.traces = Traces(database)
        self.history = History(database)
        self.slaves = Slaves(database)
        self.live_logs = LiveLogs(database)
        self.entries = Entries(database, actor=actor)
        self.submissions = Submissions(database, actor=actor, lease=settings.submit_lease)
        self.cancels = Cancels(database, actor=actor)
        self.promotions = Promotions(database, actor=actor)

    def submit(self, job: Job) -> tuple[JobRecord, bool]:
        """Store and queue a job; give back its record, and whether this call made it.

        The same job again is a success that changes nothing. Raises InvalidJob, JobConflict, SubmitInProgress,
        DatabaseUnavailable, QueueUnavailable; after the last two the same call can be repeated, here or elsewhere.
        """
        with self._queues.borrow() as queue:
            _refuse_big_entries(job, queue.max_body_bytes())
            submission = self.submissions.begin(job)
            if submission is not None:
                priorities = self.submissions.store(submission, job)
                if priorities is None:
                    self.enqueue(submission, queue)
                else:
                    self._enqueue(submission, queue, _first_attempts(job, submission, priorities))
                logger.info("Submitted job %s of %d tasks", job.job_id, len(job.tasks), extra={"action": "submitted"})
        return self.jobs.get(job.job_id), submission is not None

    def enqueue(self, submission: Submission, queue: Queue) -> None:
        """Put every attempt of a stored job that waits to be run, and mark the job as enqueued.

        After a crash in the middle some were put before. They are put again under a new delivery, which voids the
        entries that are there.
        """
        self._enqueue(submission, queue, list(chain.from_iterable(self.entries.waiting_of_job(submission.job_key))))

    def _enqueue(self, submission: Submission, queue: Queue, waiting: Sequence[Queued]) -> None:
        is_first_try = submission.claim == 1
        for page in _pages(sorted(waiting, key=lambda item: item.priority)):
            fresh = page if is_first_try else self.entries.raise_delivery(page, reason="the submit was taken over")
            self.put(fresh, queue)
            self.submissions.keep(submission)
        self.submissions.complete(submission)

    def put(self, items: Sequence[Queued], queue: Queue, *, delay_seconds: int = 0) -> None:
        """Put attempts into the tube, first in the order of their priority, and remember where they went."""
        ordered = sorted(items, key=lambda item: item.priority)
        bodies = [(item.priority, item.entry.to_body()) for item in ordered]
        server, entries = queue.put_all(bodies, delay_seconds=delay_seconds)
        places = [
            (item.entry.key, Place(server=server, entry=entry)) for item, entry in zip(ordered, entries, strict=True)
        ]
        self.entries.record_put(places)

    def put_anew(self, items: Sequence[Queued], queue: Queue, *, reason: str) -> int:
        """Void the entries of attempts that still wait and put them again; say how many."""
        raised = self.entries.raise_delivery(items, reason=reason)
        self.put(raised, queue)
        return len(raised)

    def cancel(self, job_id: str, reason: str) -> JobRecord:
        """Cancel a job. Raises JobNotFound, JobNotRunning."""
        canceled = self.cancels.cancel(job_id, reason)
        logger.info("Canceled job %s: %s", job_id, reason, extra={"action": "canceled"})
        try:
            self.clear_queue(canceled)
        except QueueUnavailable as exc:
            # The job is canceled. Slaves delete the entries that they find void, and the reconciler puts what moved.
            logger.warning("The entries of job %s stay in the tube: %s", job_id, exc, extra={"action": "cancel_late"})
        return self.jobs.get(job_id)

    def promote(self, job_id: str) -> tuple[Promoted, int]:
        """Put what waits of a job ahead of all; give back what moved, and how many missing entries were put again.

        Repeating it completes one that was cut off, and else changes nothing. Raises JobNotFound, JobNotRunning,
        and QueueUnavailable: the order is changed then, and the reconciler puts what a repetition does not.
        """
        promoted = self.promotions.promote(job_id)
        logger.info("Promoted job %s: %d attempts", job_id, len(promoted.waiting), extra={"action": "promoted"})
        with self._queues.borrow() as queue:
            found = {item.entry.key: item for item in self.entries.find_all(promoted.waiting)}
            for page in _pages([found[key] for key in promoted.waiting if key in found]):
                self.put(page, queue)
            self._delete_entries(promoted.entries, queue)
            # All or nothing was moved before: see Promotions.promote.
            return promoted, 0 if promoted.waiting else self._put_missing(promoted, queue)

    def rerun(self, job_id: str, owner: str) -> tuple[JobRecord, bool]:
        """Submit the tasks of an ended job that did not succeed as a job of their own; as `submit` otherwise.

        `owner`: who asks; empty for the job's own. Asked again, it changes nothing. Raises JobNotFound, JobNotRerun.
        """
        job = self.jobs.get(job_id)
        if job.state != "finished":
            raise JobNotRerun(f"job {job_id} has not ended yet; run again what failed once it has")
        tasks = tuple(self.attempts.unsuccessful_tasks(job.job_key))
        if not tasks:
            raise JobNotRerun(f"no task of job {job_id} failed; there is nothing to run again")
        again = Job(
            job_id=rerun_id(job_id),
            tasks=tasks,
            name=job.name,
            project=job.project,
            owner=owner or job.owner,
            max_failed_tasks=job.max_failed_tasks,
        )
        return self.submit(again)

    def clear_queue(self, canceled: Canceled) -> None:
        """Take what was canceled out of the tube, and put what moved in the order at its new place.

        May fail half-way without harm: slaves delete the entries that they find finished or void.
        """
        if canceled.not_retagged:
            logger.warning("%d attempts keep their place behind a canceled job", canceled.not_retagged)
        with self._queues.borrow() as queue:
            self._delete_entries(canceled.entries, queue)
            moved = self.entries.find_all(canceled.retagged)
            old = [(item.entry.key, item.place) for item in moved if item.place is not None]
            self.put_anew(moved, queue, reason="another job of the owner was canceled")
            self._delete_entries(old, queue)

    def _put_missing(self, promoted: Promoted, queue: Queue) -> int:
        """Put what an earlier promotion, cut off, has moved without putting it."""
        pages = self.entries.waiting_of_job(promoted.job_key)
        missing = [item for page in pages for item in absent(page, queue)]
        # FIFO among equals: the longest first.
        missing.sort(key=lambda item: (item.priority, *schedule.urgency(item.entry.expected_seconds)))
        return sum(self.put_anew(page, queue, reason="its promotion was cut off") for page in _pages(missing))

    def retry(self, job_id: str, task_name: str, attempt: int, claim: int) -> None:
        """Make sure that the attempt after a failed one is queued. Only the slave that held `claim` may ask.

        Repeating it changes nothing. Raises JobNotFound, TaskNotFound.
        """
        record = self.find_attempt(job_id, task_name, attempt)
        if record.claim != claim or record.state != "finished":
            raise TaskNotFound(f"claim {claim} on {task_name} attempt {attempt} of job {job_id} is not the last one")
        item = self.entries.find(record.key.next())
        # None: it runs, has ended, or was never to be. A place: somebody has put it; the reconciler sees to losses.
        if item is not None and item.place is None:
            is_setup = record.outcome is Outcome.SETUP_FAILED
            with self._queues.borrow() as queue:
                # What was in the way of the setup, a server that restarts say, needs time to pass.
                self.put([item], queue, delay_seconds=self._setup_retry_seconds if is_setup else 0)

    def find_attempt(self, job_id: str, task_name: str, attempt: int) -> AttemptRecord:
        """One attempt by the names that the outside uses. Raises JobNotFound, TaskNotFound."""
        job = self.jobs.get(job_id)
        index = task_index(task_name)
        record = None if index is None else self.jobs.attempt(AttemptKey(job.job_key, index, attempt))
        if record is None or record.task_id != task_name:
            raise TaskNotFound(f"job {job_id} has no task {task_name} with an attempt {attempt}")
        return record

    def _delete_entries(self, entries: Sequence[tuple[AttemptKey, Place]], queue: Queue) -> None:
        server = queue.server()
        # beanstalkd's ids start at 1 again when its disk was lost: an id from another server may be anybody's.
        sure = [place.entry for _, place in entries if place.server == server]
        unsure = [(key, place.entry) for key, place in entries if place.server != server]
        bodies = queue.peek_all([entry for _, entry in unsure])
        sure += [entry for (key, entry), body in zip(unsure, bodies, strict=True) if names(body, key)]
        queue.delete_all(sure)


def names(body: str | None, key: AttemptKey, delivery: int | None = None) -> bool:
    """Whether an entry's body is of this attempt, and of this delivery if one is given."""
    if body is None:
        return False
    try:
        entry = QueueEntry.from_body(body)
    except InvalidJob:
        return False
    return entry.key == key and (delivery is None or entry.delivery == delivery)


def absent(items: Sequence[Queued], queue: Queue) -> list[Queued]:
    """Those of the attempts whose entry is not in the tube.

    An id alone proves nothing: after the loss of beanstalkd's disk ids start at 1 again. The body must name the attempt
    and its delivery.
    """
    known = [item for item in items if item.place is not None]
    bodies = queue.peek_all([item.place.entry for item in known if item.place is not None])
    present = {
        item.entry.key
        for item, body in zip(known, bodies, strict=True)
        if names(body, item.entry.key, item.entry.delivery)
    }
    return [item for item in items if item.entry.key not in present]


def _refuse_big_entries(job: Job, limit: int) -> None:
    for index, task in enumerate(job.tasks):
        entry = QueueEntry(key=LARGEST_NUMBERS, job_id=job.job_id, task=task, delivery=2**31, expected_seconds=1e6)
        size = len(entry.to_body().encode()) + ROOM_FOR_SLAVE_NAMES
        if size > limit:
            raise InvalidJob(
                f"tasks[{index}] makes a queue entry of {size} bytes; beanstalkd takes {limit}:"
                " shorten its description, globs or env, or raise beanstalkd's option -z"
            )


def _first_attempts(job: Job, submission: Submission, priorities: Sequence[int]) -> list[Queued]:
    """What waits of a job that has just been stored, without reading it back."""
    return [
        Queued(
            entry=QueueEntry(
                key=AttemptKey(submission.job_key, index, 0),
                job_id=job.job_id,
                task=task,
                delivery=1,
                expected_seconds=expected,
            ),
            priority=priority,
            place=None,
        )
        for index, (task, expected, priority) in enumerate(zip(job.tasks, submission.expected, priorities, strict=True))
    ]


def _pages(items: Sequence[Queued]) -> list[Sequence[Queued]]:
    return [items[start : start + PAGE] for start in range(0, len(items), PAGE)]
