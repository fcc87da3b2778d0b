"""How many slaves the unfinished work is worth. Reasoned out in docs/explanation/autoscaling.md."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dist_test_autoscale.fleet import whole_slaves
from dist_test_autoscale.settings import SizeSettings
from dist_test_autoscale.snapshot import JobSnapshot, QueueSnapshot

JUNK_S = 0.2  # what a slave needs to see that an entry's attempt was canceled, and to delete it
MIN_USEFUL_S = 60.0  # of a new slave's time before the target, however long it boots
SHORTEST_S = 0.001  # a task without any duration is one task all the same


@dataclass(frozen=True, kw_only=True)
class Work:
    """Seconds of work that belong together, and their longest task."""

    seconds: float
    longest_s: float


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The unfinished work, as the queue and the rows tell it together.

    The queue's statistics are read first, so what it has beyond the rows is of canceled attempts (`junk`), or of
    attempts whose slave died and whose entries came back (`returned`). `running` are those that hold a slot of ours.
    """

    works: tuple[Work, ...]
    waiting: int
    running: int
    junk: int

    @property
    def tasks(self) -> int:
        """How many slots could be used at once."""
        return self.waiting + self.running + self.junk

    @property
    def seconds(self) -> float:
        """The work without the junk, for which nobody waits."""
        return math.fsum(work.seconds for work in self.works)


def backlog(
    queue: QueueSnapshot, jobs: Iterable[JobSnapshot], *, default_task_s: float, busy_elsewhere: int
) -> Backlog:
    """Reconcile the queue with the rows. `busy_elsewhere` are running tasks whose slaves take no more of them."""
    jobs = list(jobs)
    waiting, running = sum(job.ready_n for job in jobs), sum(job.running_n for job in jobs)
    extra = max(0, queue.ready - waiting)
    returned = min(extra, max(0, running - queue.reserved))
    staying = max(0, running - returned - busy_elsewhere)
    share = staying / running if running else 0.0
    works = [Work(seconds=job.ready_s + share * job.running_left_s, longest_s=job.longest_s) for job in jobs]
    if returned:
        works.append(Work(seconds=returned * default_task_s, longest_s=default_task_s))
    return Backlog(works=tuple(works), waiting=waiting + returned, running=staying, junk=extra - returned)


def slots_for(size: SizeSettings, backlog: Backlog, *, live_slots: int, boot_s: float, grace_s: float) -> float:
    """The slots that the work is worth, before whole slaves and limits."""
    junk = [Work(seconds=backlog.junk * JUNK_S, longest_s=JUNK_S)] if backlog.junk else []
    flow = _flow([*backlog.works, *junk], target_s=size.target_drain_s, boot_s=boot_s, live_slots=live_slots)
    slots = min(max(flow, _worth_waiting_for(size, backlog, boot_s=boot_s, grace_s=grace_s)), backlog.tasks)
    return max(slots, backlog.running, 1 if backlog.waiting or backlog.junk else 0)


def _flow(works: Sequence[Work], *, target_s: float, boot_s: float, live_slots: int) -> float:
    """The slots that have done the work at the target; a job needs no more than its longest task lets it use."""
    total_s = math.fsum(work.seconds for work in works)
    if total_s <= 0:
        return 0.0
    slots = math.fsum(work.seconds / max(target_s, work.longest_s + boot_s) for work in works)
    effective_s = total_s / slots
    missing_s = total_s - live_slots * effective_s
    if missing_s <= 0:
        return slots
    # Newcomers work only once they have booted.
    return live_slots + missing_s / max(effective_s - boot_s, MIN_USEFUL_S)


def _worth_waiting_for(size: SizeSettings, backlog: Backlog, *, boot_s: float, grace_s: float) -> float:
    """The slots n at which wait_value · work / n, the waiting, plus n · (boot + grace), the buying, cost the least."""
    slave_s = (boot_s + grace_s) / size.slots_per_slave
    cheapest = math.sqrt(size.wait_value * backlog.seconds / slave_s) if slave_s > 0 else 0.0
    useful = math.fsum(work.seconds / max(work.longest_s, SHORTEST_S) for work in backlog.works)
    return min(cheapest, useful)


def desired_slaves(size: SizeSettings, slots: float, *, least: int) -> int:
    """Whole slaves for these slots, within the limits of all groups together; `least` is what must always be there."""
    slaves = whole_slaves(slots, size.slots_per_slave)
    if slaves:
        slaves += size.min_idle
    return min(max(slaves, least), size.max_total)
