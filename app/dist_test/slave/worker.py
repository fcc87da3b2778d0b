"""A whole slave: its slots, heartbeat, writer and uploads, from start to the end of a drain."""

import fcntl
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from dist_test import __version__
from dist_test.errors import ConfigurationError
from dist_test.isolate.cache import BlobCache, CacheLimits
from dist_test.isolate.client import IsolateClient
from dist_test.running.container import ContainerProgram
from dist_test.running.environment import operator_environment
from dist_test.running.runner import Runner
from dist_test.running.users import ClaimedUser, TaskUser, claim_user
from dist_test.settings import SlaveSettings
from dist_test.slave.heartbeat import Heartbeat
from dist_test.slave.holdings import Holdings, Stop
from dist_test.slave.live import LiveOutput
from dist_test.slave.master_client import MasterClient
from dist_test.slave.metrics import BUSY, SLOTS
from dist_test.slave.preemption import PreemptionWatch
from dist_test.slave.slot import Slot, Workshop
from dist_test.slave.standing import Standing
from dist_test.slave.uploads import Uploader
from dist_test.slave.writer import Writer
from dist_test.storage.claims import Claims
from dist_test.storage.database import Database
from dist_test.storage.finishes import Finishes
from dist_test.storage.live_logs import LiveLogs
from dist_test.storage.queue import Queue
from dist_test.storage.results import Bucket
from dist_test.storage.slaves import SlaveDescription, Slaves

logger = logging.getLogger(__name__)

HAND_BACK_SECONDS = 10.0  # how long an exit waits, beyond the grace of tasks, for slots that hand theirs back
LIVE_ANSWER_SECONDS = 2  # how long a statement for who looks at a log may take
WRITE_SECONDS = 30.0  # how long an exit waits for the last results; their leases lapse otherwise


@dataclass(frozen=True, kw_only=True)
class _Servers:
    """The connections of a slave."""

    database: Database
    isolate: IsolateClient
    bucket: Bucket


class Worker:
    """A slave process's work: start(), then wait(), which returns some time after another thread's leave()."""

    def __init__(self, settings: SlaveSettings) -> None:
        """Open what the slave needs. Raises ConfigurationError, SchemaMismatch, DatabaseUnavailable, OSError."""
        self._settings = settings
        self._work_dir_lock = _lock_work_dir(settings.work_dir)
        self._servers = _servers(settings)
        self._servers.database.check_schema()
        self._slaves = Slaves(self._servers.database)
        self._users = _claim_users(settings)
        self._standing = Standing(quarantine_retry=settings.quarantine_retry)
        self._holdings = Holdings()
        self._live_database = Database(settings.mysql, pool_size=1, answer_seconds=LIVE_ANSWER_SECONDS)
        self._live = LiveOutput(LiveLogs(self._live_database), self._holdings)
        self._shop = self._workshop()
        self._slots = [self._slot(number, user) for number, user in enumerate(self._users)]
        self._hurry = threading.Event()
        lease_seconds = settings.lease.total_seconds()
        # Of its own, and impatient: a database that hangs must not keep the heartbeat from stopping tasks in time.
        self._beat_database = Database(settings.mysql, pool_size=1, answer_seconds=max(2, round(lease_seconds / 4)))
        self._heartbeat = Heartbeat(
            Claims(self._beat_database, slave_id=settings.slave_id, lease=settings.lease),
            self._holdings,
            self._standing,
            busy=self.busy,
            register=self._register,
            # Both must be renewed in time: the lease, and the entry's time to run.
            every=min(settings.heartbeat_every, settings.beanstalk.time_to_run / 3),
            lease=settings.lease,
        )
        self._watch = None if settings.metadata_url is None else PreemptionWatch(settings.metadata_url, self.preempt)

    def busy(self) -> int:
        """How many slots run a task."""
        return sum(slot.is_busy for slot in self._slots)

    def leave(self) -> None:
        """Begin to drain for good; a second call hands running tasks back at once. Not for signal handlers."""
        if self._standing.leaving.is_set():
            self._hurry.set()
        self._standing.leaving.set()

    def preempt(self) -> None:
        """Hand back what runs, now: the machine goes away in half a minute. What has ended is still recorded."""
        logger.warning("The machine is preempted: handing back %d tasks", self.busy(), extra={"action": "preempted"})
        self._standing.preempt()
        self._holdings.stop_all(Stop.PREEMPTED)
        self._heartbeat.hurry()
        self._hurry.set()

    def start(self) -> None:
        """Register and begin to take tasks. Raises RunError."""
        self._register()
        SLOTS.set(len(self._slots))
        BUSY.set_function(self.busy)
        self._shop.writer.start()
        self._live.start()
        self._heartbeat.start()
        if self._watch is not None:
            self._watch.start()
        for slot in self._slots:
            slot.start()
        logger.info("Slave %s takes tasks on %d slots", self._settings.slave_id, len(self._slots))

    def wait(self) -> None:
        """Work until leave(), then finish or hand back what runs, record it, and close everything."""
        while not self._standing.leaving.wait(3600):
            pass
        self._drain()
        self._close()

    def _drain(self) -> None:
        logger.info("Leaving: %d tasks are running", self.busy(), extra={"action": "draining"})
        deadline = time.monotonic() + self._settings.drain_limit.total_seconds()
        while not self._hurry.is_set() and time.monotonic() < deadline:
            if all(slot.join(0.1) for slot in self._slots):
                return
        self._holdings.stop_all(Stop.HANDED_BACK)
        deadline = time.monotonic() + self._settings.kill_grace.total_seconds() + HAND_BACK_SECONDS
        if not all(slot.join(max(0.0, deadline - time.monotonic())) for slot in self._slots):
            # Something cannot be interrupted, a download say. Its attempt is handed back all the same.
            logger.warning("Leaving without waiting for what cannot be interrupted", extra={"action": "left_early"})
            for holding in self._holdings.all():
                self._shop.claims.release(holding.claim, "the slave leaves")

    def _close(self) -> None:
        if self._watch is not None:
            self._watch.stop()
        self._shop.uploader.close()
        if not self._shop.writer.stop(timeout_seconds=WRITE_SECONDS):
            logger.error("Not all results could be recorded; their attempts run again when their leases lapse")
        self._live.stop()
        self._heartbeat.stop()
        self._heartbeat.beat()
        for slot in self._slots:
            slot.close()
        for user in self._users:
            if user is not None:
                user.release()
        self._servers.database.close()
        self._beat_database.close()
        self._live_database.close()
        self._servers.isolate.close()
        os.close(self._work_dir_lock)
        logger.info("Left", extra={"action": "left"})

    def _workshop(self) -> Workshop:
        settings, servers = self._settings, self._servers
        finishes = Finishes(servers.database, slave_id=settings.slave_id)
        master = MasterClient(
            settings.master,
            user=settings.user,
            password=settings.password,
            timeout_seconds=settings.url_timeout_seconds,
        )
        return Workshop(
            claims=Claims(servers.database, slave_id=settings.slave_id, lease=settings.lease),
            finishes=finishes,
            holdings=self._holdings,
            standing=self._standing,
            writer=Writer(finishes, self._holdings, master),
            uploader=Uploader(servers.bucket, threads=max(4, 2 * settings.slots)),
            cache=BlobCache(settings.cache.directory, servers.isolate, CacheLimits.of(settings.cache)),
            live=self._live,
            busy_retry=settings.busy_retry,
        )

    def _slot(self, number: int, user: ClaimedUser | None) -> Slot:
        runner = _runner(self._settings, number, user.user if user else None)
        return Slot(number, Queue(self._settings.beanstalk), runner, self._shop)

    def _register(self) -> None:
        settings = self._settings
        self._slaves.register(
            SlaveDescription(
                slave_id=settings.slave_id,
                instance_id=settings.instance_id,
                zone=settings.zone,
                mig=settings.mig,
                template=settings.template,
                slots=settings.slots,
                version=__version__,
            )
        )


def _servers(settings: SlaveSettings) -> _Servers:
    return _Servers(
        # Each slot claims, the writer writes, the heartbeat beats.
        database=Database(settings.mysql, pool_size=settings.slots + 2),
        isolate=IsolateClient(settings.isolate_server, settings.namespace),
        bucket=Bucket.of(settings.aws),
    )


def _claim_users(settings: SlaveSettings) -> list[ClaimedUser | None]:
    if os.geteuid() != 0:
        logger.warning("Not root: tasks run as this user, and may outlive their end by hiding from it")
        return [None] * settings.slots
    return [
        claim_user(prefix=settings.task_user_prefix, create=settings.create_task_users) for _ in range(settings.slots)
    ]


def _runner(settings: SlaveSettings, number: int, user: TaskUser | None) -> Runner:
    return Runner(
        work_dir=settings.work_dir / f"slot{number}",
        user=user,
        output_limit_bytes=settings.output_limit_bytes,
        artifact_limit_bytes=settings.artifact_limit_bytes,
        kill_grace=settings.kill_grace,
        container=ContainerProgram(
            program=(settings.container_program, *settings.container_global_args),
            container_args=settings.container_args,
        ),
        base_environment=operator_environment(
            pass_environment=settings.pass_environment, environment=settings.environment, source=os.environ
        ),
    )


def _lock_work_dir(work_dir: Path) -> int:
    # Tasks' users must reach their directories below it, and see nothing else.
    work_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    descriptor = os.open(work_dir / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationError(
            f"another slave works in {work_dir}; give this one another slave.work_dir and slave.id"
        ) from None
    return descriptor
