"""The failed tasks of a job, as they become known."""

import itertools
from collections.abc import Iterator

from dist_test.cli.master_client import MasterClient
from dist_test.cli.records import Attempt, Job

SHOWN_FAILURES = 10


class Failures:
    """Finds the failed tasks of one job, each once, and no more than are worth showing.

    A task that has failed may be about to be retried, and only the counters say so. So nothing is looked up while a
    task is being retried, and what was found is kept back when a retry came in meanwhile.
    """

    def __init__(self, client: MasterClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._known: dict[str, Attempt] = {}

    def new(self, job: Job) -> list[Attempt]:
        """The last attempts of tasks that failed since the last call, as far as they are certain and shown."""
        room = SHOWN_FAILURES - len(self._known)
        if not room or self.more(job) <= 0 or job.counters.retrying_tasks:
            return []
        found = list(itertools.islice(self._failed_tasks(job), room))
        if not job.is_finished and self._has_retried_since(job):
            return []
        self._known |= {attempt.task_id: attempt for attempt in found}
        return found

    def more(self, job: Job) -> int:
        """How many tasks failed beside those that were given back, and beside canceled ones."""
        return job.counters.failed_tasks - job.counters.canceled_tasks - len(self._known)

    def _failed_tasks(self, job: Job) -> Iterator[Attempt]:
        flaky = set(self._flaky_tasks(job))
        failed = self._client.attempts(self._job_id, state="failed")
        for task_id, attempts in itertools.groupby(failed, lambda attempt: attempt.task_id):
            last = list(attempts)[-1]
            if last.outcome != "canceled" and task_id not in flaky and task_id not in self._known:
                yield last

    def _flaky_tasks(self, job: Job) -> Iterator[str]:
        if job.counters.flaky_tasks:
            yield from (attempt.task_id for attempt in self._client.attempts(self._job_id, state="flaky"))

    def _has_retried_since(self, job: Job) -> bool:
        return self._client.job(self._job_id).counters.retried_attempts != job.counters.retried_attempts
