"""Let a job pass all others, and say at whose cost."""

from collections.abc import Callable, Iterator
from contextlib import closing

from dist_test.master.service import Service
from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.promotions import Delayed, Promoted
from dist_test.storage.queue import Queues


def run_promote(settings: MasterSettings, job_id: str, say: Callable[[str], None]) -> int:
    """Promote a job and print what moved and whom that delays. Gives the exit status.

    Raises JobNotFound, JobNotRunning, DatabaseUnavailable, QueueUnavailable.
    """
    with closing(Database(settings.mysql, pool_size=1)) as database, closing(Queues(settings.beanstalk)) as queues:
        database.check_schema()
        service = Service(settings, database, queues)
        promoted, put_again = service.promote(job_id)
        slots = sum(slave.slots for slave in service.slaves.all() if slave.is_live)
        delayed = service.promotions.delayed(promoted) if promoted.moves else []
    for line in _lines(job_id, promoted, put_again, delayed, slots):
        say(line)
    return 0


def _lines(job_id: str, promoted: Promoted, put_again: int, delayed: list[Delayed], slots: int) -> Iterator[str]:
    """What happened, in words. PURE."""
    if promoted.moves or promoted.running:
        yield (
            f"{job_id}: {len(promoted.waiting):,} waiting attempts, {promoted.seconds:,.0f} s of expected work,"
            f" go before all others; {promoted.running:,} run already."
        )
    elif put_again:
        yield f"{job_id} was promoted before; {put_again:,} of its attempts were not in the queue and are put again."
    else:
        yield f"{job_id} was promoted before, with all that waits of it; nothing changes."
    if not promoted.moves:
        return
    if not delayed:
        yield "No other job waits longer for it."
        return
    yield "Behind them wait:" if slots else "Behind them wait, for as long as no slave is alive:"
    for job in delayed:
        by = f", up to {job.seconds / slots:,.1f} s longer on {slots:,} live slots" if slots else ""
        owner = f"owner {job.owner}" if job.owner else "without an owner"
        yield f"  {job.job_id} ({owner}): {job.waiting:,} attempts, {job.seconds:,.0f} s of work put ahead{by}"
