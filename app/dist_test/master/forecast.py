"""When jobs will be done, as far as history and the number of slots can tell."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dist_test.master.kept import Kept
from dist_test.storage.jobs import JobRecord, Jobs
from dist_test.storage.slaves import Slaves

# The sum over a job's unfinished attempts takes 20 ms for 100,000 of them, and every watcher asks every few seconds.
KEPT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """The seconds of one slot's work that each unfinished job has left, by job_key, and the slots of live slaves."""

    work: Mapping[int, float]
    slots: int

    def seconds(self, work: float) -> float | None:
        return round(work / self.slots, 3) if self.slots else None


class Forecast:
    """Forecasts that are up to five seconds old. Safe to share between threads."""

    def __init__(self, jobs: Jobs, slaves: Slaves, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._slaves = slaves
        self._kept: Kept[_Measured] = Kept(seconds=KEPT_SECONDS, clock=clock)

    def seconds_left(self, job: JobRecord) -> float | None:
        """The seconds until the job ends if all live slots worked for it; None when it has ended or nobody works."""
        if job.state == "finished":
            return None
        if job.job_key not in self._measured().work:
            self._kept.forget(None)  # it is newer than what was measured
        measured = self._measured()
        return measured.seconds(measured.work.get(job.job_key, 0.0))

    def seconds_to_drain(self) -> float | None:
        """The seconds until all that waits and runs now has ended; None when nobody works."""
        measured = self._measured()
        return measured.seconds(sum(measured.work.values()))

    def _measured(self) -> _Measured:
        return self._kept.get(None, self._measure)

    def _measure(self) -> _Measured:
        slots = sum(slave.slots for slave in self._slaves.all() if slave.is_live)
        return _Measured(work=self._jobs.expected_seconds_by_job(), slots=slots)
