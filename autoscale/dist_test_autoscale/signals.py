"""All that a decision is based on, read in the order that makes it consistent: the queue, the database, the groups."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from dist_test.errors import DatabaseRefused, DatabaseUnavailable, QueueUnavailable
from dist_test.storage.autoscaling import ClusterReading, JobWork, SlaveRow
from dist_test.storage.tube import TubeReading
from dist_test_autoscale.clock import DatabaseClock
from dist_test_autoscale.listings import Listing
from dist_test_autoscale.settings import PolicySettings
from dist_test_autoscale.sightings import Sightings
from dist_test_autoscale.snapshot import GroupSnapshot, JobSnapshot, QueueSnapshot, SlaveSnapshot, Snapshot

logger = logging.getLogger(__name__)

LEAST_S = 1.0  # for the groups, however long the others took: that they were slow is no failure of the groups
SILENT_KEPT_S = 3600.0  # rows of slaves that were deleted stay: without an instance they are of no interest any more


class Queue(Protocol):
    """beanstalkd's totals; storage.tube.Tube."""

    def read(self) -> TubeReading: ...


class Cluster(Protocol):
    """The database; storage.autoscaling.Autoscaling."""

    def read(self, *, default_seconds: float) -> ClusterReading: ...


class Groups(Protocol):
    """The instance groups; listings.Listings."""

    def read(self, deadline: float) -> tuple[Listing, ...]: ...


class Signals:
    """Reads snapshots. `ages`: seconds since each source was last read well; a source never read is not in it."""

    def __init__(
        self,
        policy: PolicySettings,
        *,
        queue: Queue,
        cluster: Cluster,
        groups: Groups,
        sightings: Sightings,
        clock: DatabaseClock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._queue = queue
        self._cluster = cluster
        self._groups = groups
        self._sightings = sightings
        self._clock = clock
        self._monotonic = monotonic
        self._read_at: dict[str, float] = {}
        self._database_since: float | None = None
        self.boots: list[float] = []

    def read(self, deadline: float, *, leader: bool = True) -> Snapshot:
        """The world now. What could not be read is None; the groups are read until `deadline`, on the monotonic clock.

        Not the leader: nothing is read.
        """
        if not leader:
            self._database_since = None
            return self._empty()
        # The queue first: the master writes rows before entries, so what the queue has beyond the rows is over.
        queue_at = self._monotonic()
        tube = self._read_queue()
        cluster = self._read_cluster()
        listings = self._groups.read(max(deadline, self._monotonic() + LEAST_S))
        now = self._clock.now()
        groups = tuple(self._group(listing, now) for listing in listings)
        if groups and all(group.ok for group in groups):
            self._note("groups")
        slaves = None if cluster is None else _slaves(cluster, groups, now)
        self.boots = self._sightings.time_boots(slaves or ())
        return Snapshot(
            now=now,
            leader=True,
            boot_s=self._sightings.boot_s,
            queue=None if tube is None else _queue(tube, self._clock.at(queue_at)),
            jobs=None if cluster is None else tuple(map(_job, cluster.jobs)),
            slaves=slaves,
            groups=groups,
            db_fresh_for=0.0 if self._database_since is None else self._monotonic() - self._database_since,
        )

    def ages(self) -> dict[str, float]:
        """Seconds since each source was last read well; one that never was is missing."""
        return {source: self._monotonic() - at for source, at in self._read_at.items()}

    def _empty(self) -> Snapshot:
        boot_s = self._sightings.boot_s
        return Snapshot(
            now=self._clock.now(), leader=False, boot_s=boot_s, queue=None, jobs=None, slaves=None, groups=()
        )

    def _read_queue(self) -> TubeReading | None:
        try:
            reading = self._queue.read()
        except QueueUnavailable as exc:
            logger.warning("%s", exc, extra={"action": "queue_unread"})
            return None
        self._note("queue")
        return reading

    def _read_cluster(self) -> ClusterReading | None:
        last = self._read_at.get("database")
        try:
            reading = self._cluster.read(default_seconds=self._policy.size.default_task_s)
        except (DatabaseUnavailable, DatabaseRefused) as exc:
            logger.warning("%s", exc, extra={"action": "database_unread"})
            self._database_since = None
            return None
        self._clock.set(reading.now.timestamp())
        self._note("database")
        # A gap is a time in which slaves may not have been able to write either.
        if last is None or self._database_since is None or self._monotonic() - last > self._policy.stale_s:
            self._database_since = self._monotonic()
        return reading

    def _note(self, source: str) -> None:
        self._read_at[source] = self._monotonic()

    def _group(self, listing: Listing, now: float) -> GroupSnapshot:
        reading = listing.reading
        return GroupSnapshot(
            name=reading.name,
            target=reading.target,
            ok=listing.ok,
            autoscaler=reading.autoscaler,
            instances=self._sightings.note(reading, now),
        )


def _queue(tube: TubeReading, at: float) -> QueueSnapshot:
    return QueueSnapshot(
        ready=tube.ready,
        reserved=tube.reserved,
        delayed=tube.delayed,
        buried=tube.buried,
        is_paused=tube.is_paused,
        server_id=tube.server,
        at=at,
        is_missing=tube.is_missing,
    )


def _job(work: JobWork) -> JobSnapshot:
    return JobSnapshot(
        job_id=work.job_id,
        ready_n=work.waiting,
        ready_s=work.waiting_seconds,
        running_n=work.running,
        running_left_s=work.running_seconds_left,
        longest_s=work.longest_seconds,
    )


def _slaves(cluster: ClusterReading, groups: tuple[GroupSnapshot, ...], now: float) -> tuple[SlaveSnapshot, ...]:
    listed = {instance.name for group in groups for instance in group.instances}
    slaves = map(_slave, cluster.slaves)
    return tuple(slave for slave in slaves if slave.name in listed or now - slave.heartbeat <= SILENT_KEPT_S)


def _slave(row: SlaveRow) -> SlaveSnapshot:
    return SlaveSnapshot(
        name=row.slave_id,
        instance_id=row.instance_id,
        slots=row.slots,
        busy=row.busy,
        state=row.state,
        want=row.want,
        lease_held=row.has_lease,
        heartbeat=row.heartbeat.timestamp(),
        idle_since=None if row.idle_since is None else row.idle_since.timestamp(),
        started=row.started_at.timestamp(),
    )
