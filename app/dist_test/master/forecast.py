"""When a job will be done, as far as history and the number of slots can tell."""

import time
from collections.abc import Callable

from dist_test.storage.jobs import JobRecord, Jobs
from dist_test.storage.slaves import Slaves

# The sum over a job's unfinished attempts takes 20 ms for 100,000 of them, and every watcher asks every few seconds.
KEPT_SECONDS = 5.0


class Forecast:
    """Forecasts that are up to five seconds old. Safe to share between threads."""

    def __init__(self, jobs: Jobs, slaves: Slaves, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._slaves = slaves
        self._clock = clock
        self._kept: dict[int, tuple[float, float | None]] = {}

    def seconds_left(self, job: JobRecord) -> float | None:
        """The seconds until the job ends if all live slots worked for it; None when it has ended or nobody works."""
        if job.state == "finished":
            return None
        until, seconds = self._kept.get(job.job_key, (0.0, None))
        if self._clock() < until:
            return seconds
        seconds = self._measure(job.job_key)
        now = self._clock()
        self._kept = {key: kept for key, kept in list(self._kept.items()) if now < kept[0]}
        self._kept[job.job_key] = (now + KEPT_SECONDS, seconds)
        return seconds

    def _measure(self, job_key: int) -> float | None:
        slots = sum(slave.slots for slave in self._slaves.all() if slave.is_live)
        return round(self._jobs.expected_seconds_left(job_key) / slots, 3) if slots else None
