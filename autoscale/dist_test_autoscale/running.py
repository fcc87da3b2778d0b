"""Put the service together from the configuration, and run it until SIGTERM."""

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from dist_test.settings import MysqlSettings
from dist_test.storage.autoscaling import Autoscaling
from dist_test.storage.database import Database
from dist_test.storage.leader import Leadership
from dist_test.storage.tube import Tube
from dist_test_autoscale.breaker import Fleet, GuardedFleet
from dist_test_autoscale.clock import DatabaseClock
from dist_test_autoscale.execution import Executor
from dist_test_autoscale.leader import Leader
from dist_test_autoscale.listings import Listings
from dist_test_autoscale.metrics import Metrics
from dist_test_autoscale.notify import READY, STOPPING, Systemd
from dist_test_autoscale.servers import beanstalk_settings, mysql_settings
from dist_test_autoscale.service import Service, Tick
from dist_test_autoscale.settings import Settings
from dist_test_autoscale.sightings import Sightings
from dist_test_autoscale.signals import Signals
from dist_test_autoscale.web import answers, serving

logger = logging.getLogger(__name__)

ROLE = "autoscaler"
SHORTEST_ANSWER_SECONDS = 2
LONGEST_PAUSE_S = 1.0  # between two words to systemd, and before SIGTERM is noticed at the latest
TERM_INTERVALS = 3  # a leader that is silent for so many intervals is followed by another


Connect = Callable[[Metrics], AbstractContextManager[Fleet]]
"""Makes the fleet, which counts its calls in the metrics, and closes it in the end."""


class Stop:
    """SIGTERM or SIGINT, as something to wait for.

    A handler runs between any two instructions of the main thread, which may hold the very lock that an event takes:
    so it writes to a pipe.
    """

    def __init__(self) -> None:
        self._reader, writer = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(writer, b"."))

    def wait(self, seconds: float) -> bool:
        """Wait for it; say whether it has come."""
        ready, _, _ = select.select([self._reader], [], [], max(0.0, seconds))
        return bool(ready)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A service with all it needs, and what shows how it fares."""

    service: Service
    metrics: Metrics


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """The database, with a schema that serves us. Raises ConfigurationError, SchemaMismatch, DatabaseUnavailable."""
    database = _database(settings, mysql_settings(settings))
    try:
        database.check_schema()
        yield database
    finally:
        database.close()


@contextmanager
def workplace(settings: Settings, connect: Connect) -> Iterator[Workplace]:
    """Open everything. Raises as open_database."""
    with ExitStack() as stack:
        database = stack.enter_context(open_database(settings))
        # Of its own: the lock lives as long as this connection.
        candidate_database = _database(settings, database.settings)
        stack.callback(candidate_database.close)
        tube = Tube(beanstalk_settings(settings))
        stack.callback(tube.close)
        metrics = Metrics(settings.policy)
        fleet = stack.enter_context(connect(metrics))
        yield _workplace(settings, stack, database, candidate_database, tube, fleet, metrics)


def _workplace(
    settings: Settings,
    stack: ExitStack,
    database: Database,
    candidate_database: Database,
    tube: Tube,
    fleet: Fleet,
    metrics: Metrics,
) -> Workplace:
    records = Autoscaling(database)
    guarded = GuardedFleet(fleet)
    listings = Listings(guarded, settings.policy.groups)
    stack.callback(listings.close)
    candidate = Leadership(candidate_database, ROLE, silence_seconds=_silence_seconds(settings))
    leader = Leader(candidate, records, name=f"{socket.gethostname()}:{os.getpid()}")
    stack.callback(leader.resign)
    executor = Executor(guarded, records, leader, groups=len(settings.policy.groups))
    stack.callback(executor.close)
    sightings = watch(settings)
    service = Service(
        settings,
        leader=leader,
        signals=signals_of(settings, tube, records, listings, sightings),
        executor=executor,
        records=records,
        sightings=sightings,
        metrics=metrics,
    )
    return Workplace(service=service, metrics=metrics)


def watch(settings: Settings) -> Sightings:
    """A memory of instances that has seen none yet."""
    scale_out = settings.policy.scale_out
    return Sightings(boot_s=scale_out.boot_s_default, longest_boot_s=scale_out.boot_timeout_s)


def signals_of(
    settings: Settings, tube: Tube, cluster: Autoscaling, listings: Listings, sightings: Sightings
) -> Signals:
    """The signals of the real world."""
    return Signals(
        settings.policy,
        queue=tube,
        cluster=cluster,
        groups=listings,
        sightings=sightings,
        clock=DatabaseClock(),
    )


def run(settings: Settings, connect: Connect) -> None:
    """Decide and act until SIGTERM or SIGINT; the round under way ends first. Raises as workplace."""
    stop, systemd = Stop(), Systemd()
    with workplace(settings, connect) as place:
        service = place.service
        pages = answers(place.metrics.registry, health=service.health, readiness=service.readiness, plan=service.plan)
        with serving(settings.listen, pages) as port:
            logger.info("Serving on port %d", port, extra={"action": "serving"})
            systemd.tell(READY)
            _tick_until(stop, settings.interval_s, place, systemd)
            systemd.tell(STOPPING)
    logger.info("Left; the groups keep their sizes", extra={"action": "left"})


def run_once(settings: Settings, connect: Connect) -> Tick:
    """One round. Raises as workplace."""
    with workplace(settings, connect) as place:
        return place.service.tick()


def _tick_until(stop: Stop, interval_s: float, place: Workplace, systemd: Systemd) -> None:
    due = time.monotonic()
    while not stop.wait(0):
        systemd.alive()
        try:
            place.service.tick()
        except Exception:  # a mistake of ours in one round must not leave the cluster without the next
            logger.exception("A round failed", extra={"action": "round_failed"})
            place.metrics.tick_failures.inc()
        # A round that was late does not make the next ones hurry.
        due = max(due + interval_s, time.monotonic())
        while (left := due - time.monotonic()) > 0 and not stop.wait(min(left, LONGEST_PAUSE_S)):
            systemd.alive()


def _database(settings: Settings, mysql: MysqlSettings) -> Database:
    answer_seconds = max(SHORTEST_ANSWER_SECONDS, int(settings.interval_s / 2))
    return Database(mysql, pool_size=2, answer_seconds=answer_seconds)


def _silence_seconds(settings: Settings) -> int:
    return max(1, round(TERM_INTERVALS * settings.interval_s))
