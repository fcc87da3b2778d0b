"""The cluster in a few numbers: for /stats, the home page and the metrics."""

from dataclasses import dataclass

from dist_test.storage.jobs import Jobs
from dist_test.storage.queue import Queues, TubeStatistics
from dist_test.storage.slaves import Slave, Slaves


@dataclass(frozen=True, kw_only=True)
class Work:
    """What there is to do, by the database. Attempts of jobs that are still being submitted count as queued."""

    queued_attempts: int
    running_attempts: int
    running_jobs: int
    submitting_jobs: int


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The slaves that are alive. An idle one is up, wanted, and runs nothing."""

    live: int
    idle: int
    draining: int
    slots: int


class Overview:
    """Counts what is there now. Safe to share between threads."""

    def __init__(self, jobs: Jobs, slaves: Slaves, queues: Queues) -> None:
        self._jobs = jobs
        self._slaves = slaves
        self._queues = queues

    def work(self) -> Work:
        """Raises DatabaseUnavailable."""
        running = self._jobs.running()
        return Work(
            # Two statements: an attempt may end between them.
            queued_attempts=max(0, self._jobs.unfinished() - running),
            running_attempts=running,
            running_jobs=len(self._jobs.by_state("running")),
            submitting_jobs=len(self._jobs.by_state("submitting")),
        )

    def fleet(self) -> Fleet:
        """Raises DatabaseUnavailable."""
        return count_fleet(self._slaves.all())

    def tube(self) -> TubeStatistics:
        """Raises QueueUnavailable."""
        with self._queues.borrow() as queue:
            return queue.statistics()


def count_fleet(slaves: list[Slave]) -> Fleet:
    """Count the slaves that are alive. PURE."""
    live = [slave for slave in slaves if slave.is_live]
    return Fleet(
        live=len(live),
        idle=sum(slave.state == "up" and slave.want == "run" and slave.busy == 0 for slave in live),
        draining=sum(slave.want == "drain" or slave.state in ("draining", "drained") for slave in live),
        slots=sum(slave.slots for slave in live),
    )
