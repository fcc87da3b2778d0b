"""A farm whose programs reach one another by links that can be cut, and what can be done to each of them."""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.program import Program
from dist_test.local.services import Slave

from ..farm import Farm
from .network import Link, Network
from .processes import children, freeze
from .schedule import BEANSTALKD, ISOLATE, MARIADB, MASTER, S3, SLAVE, Fault, Kind

SERVICES = "services"  # the client's name of master and isolate server, which share a file of settings
START_SECONDS = 60  # a service manager would start a program again for as long as its database is away
SETTINGS = {
    # Whether a slave or the reconciler sees to it, a setup is tried again when the isolate server is back: an outage
    # costs a task one setup.
    "master": {"setup_retry_seconds": "8", "queued_grace_seconds": "5"},
    # Small enough that blobs are fetched all the time.
    "isolate": {"cache_max_items": "40"},
}
_SETTING_OF = {
    MARIADB: "MYSQL_PORT",
    BEANSTALKD: "BEANSTALK_PORT",
    S3: "AWS_ENDPOINT_URL",
    ISOLATE: "ISOLATE_SERVER",
    MASTER: "DIST_TEST_MASTER",
}


class LinkedSlave(Slave):
    """A slave that reaches its servers by links of its own, with a cache of its own."""

    links: Sequence[Link] = ()
    # While S3 is away, one upload after the other is tried for 12 s before its result is recorded without logs.
    stop_limit = timedelta(seconds=90)

    def _environment(self) -> Mapping[str, str]:
        own = {_SETTING_OF[link.server]: _address(link) for link in self.links}
        return {**super()._environment(), **own, "ISOLATE_CACHE_DIR": str(self.state_dir / "cache")}


class Cluster:
    """A farm with `slaves` slaves, everything up after start(). Each program may be harmed by one thread at a time."""

    def __init__(self, directory: Path, *, slaves: int, slots: int) -> None:
        self.farm = Farm(directory)
        self.network = Network()
        self._ports: Mapping[str, Callable[[], int]] = {
            MARIADB: lambda: self.farm.mariadb.port,
            BEANSTALKD: lambda: self.farm.beanstalkd.port,
            S3: lambda: self.farm.seaweedfs.port,
            ISOLATE: lambda: self.farm.isolate.port,
            MASTER: lambda: self.farm.master.port,
        }
        for number in range(slaves):
            self._add_slave(number, slots)
        self.programs: Mapping[str, Program] = {
            MARIADB: self.farm.mariadb,
            BEANSTALKD: self.farm.beanstalkd,
            S3: self.farm.seaweedfs,
            ISOLATE: self.farm.isolate,
            MASTER: self.farm.master,
            **{slave.name: slave for slave in self.farm.slaves},
        }

    def _add_slave(self, number: int, slots: int) -> None:
        farm = self.farm
        slave = LinkedSlave(farm.directory / f"{SLAVE}-{number}", farm.slave_configuration, number=number, slots=slots)
        slave.links = [self.network.link(slave.name, server, port) for server, port in self._ports.items()]
        farm.slaves.append(slave)

    def start(self) -> None:
        """Start everything."""
        ports = {name: self.network.link(SERVICES, name, self._ports[name]) for name in (MARIADB, BEANSTALKD, S3)}
        self.farm.start(
            mysql={"port": _address(ports[MARIADB])},
            beanstalk={"port": _address(ports[BEANSTALKD])},
            aws={"endpoint_url": _address(ports[S3])},
            **SETTINGS,
        )
        for slave in self.farm.slaves:
            slave.reserve_ports()
        _at_once(Program.start, self.farm.slaves)

    def inflict(self, fault: Fault) -> None:
        """Do it, wait until it is over, and see that its target is up again. Raises LocalClusterError."""
        _HARMS[fault.kind](self, fault)

    def check_running(self) -> None:
        """Raise LocalClusterError when a program is down that nobody has stopped."""
        for program in self.programs.values():
            if not program.is_running:
                raise LocalClusterError(f"{program.name} ended by itself, with exit status {program.exit_status}")

    def stop(self) -> None:
        """End every program as an operator would. Raises LocalClusterError when a service does not end well."""
        services: Sequence[Program] = (*self.farm.slaves, self.farm.master, self.farm.isolate)
        _at_once(Program.stop, self.farm.slaves)
        _at_once(Program.stop, services)
        self.farm.stop()
        bad = {service.name: service.exit_status for service in services if service.exit_status != 0}
        if bad:
            raise LocalClusterError(f"these did not end well when they were told to stop: {bad}")

    def _kill(self, fault: Fault) -> None:
        self._down(fault, self.programs[fault.target].kill)

    def _wipe(self, fault: Fault) -> None:
        def lose() -> None:
            self.farm.beanstalkd.kill()
            self.farm.beanstalkd.wipe()

        self._down(fault, lose)

    def _restart(self, fault: Fault) -> None:
        self._down(fault, self.programs[fault.target].stop)

    def _evict(self, fault: Fault) -> None:
        def evict() -> None:
            program = self.programs[fault.target]
            for _ in range(2):
                os.kill(program.pid, signal.SIGTERM)
            program.stop()

        self._down(fault, evict)

    def _down(self, fault: Fault, take_down: Callable[[], None]) -> None:
        take_down()
        time.sleep(fault.lasts_seconds)
        _start(self.programs[fault.target])

    def _freeze(self, fault: Fault) -> None:
        freeze(self.programs[fault.target].pid, fault.lasts_seconds)

    def _kill_worker(self, fault: Fault) -> None:
        if (worker := self._worker(fault)) is not None:
            os.kill(worker, signal.SIGKILL)

    def _freeze_worker(self, fault: Fault) -> None:
        if (worker := self._worker(fault)) is not None:
            freeze(worker, fault.lasts_seconds)

    def _worker(self, fault: Fault) -> int | None:
        workers = sorted(children(self.programs[fault.target].pid))
        return workers[fault.worker % len(workers)] if workers else None

    def _cut(self, fault: Fault) -> None:
        self._obstruct(fault, self.network.cut)

    def _stall(self, fault: Fault) -> None:
        self._obstruct(fault, self.network.stall)

    def _obstruct(self, fault: Fault, obstruct: Callable[[list[Link]], None]) -> None:
        links = [link for link in self.network.links if _concerns(fault, link)]
        obstruct(links)
        time.sleep(fault.lasts_seconds)
        self.network.heal(links)


_HARMS: Mapping[Kind, Callable[[Cluster, Fault], None]] = {
    Kind.KILL: Cluster._kill,
    Kind.WIPE: Cluster._wipe,
    Kind.RESTART: Cluster._restart,
    Kind.EVICT: Cluster._evict,
    Kind.FREEZE: Cluster._freeze,
    Kind.KILL_WORKER: Cluster._kill_worker,
    Kind.FREEZE_WORKER: Cluster._freeze_worker,
    Kind.CUT: Cluster._cut,
    Kind.STALL: Cluster._stall,
}


def _concerns(fault: Fault, link: Link) -> bool:
    if fault.role != SLAVE:
        return link.server == fault.target
    # How often the isolate server is away, the schedule counts.
    return link.client == fault.target and link.server != ISOLATE


def _address(link: Link) -> str:
    is_port = _SETTING_OF[link.server].endswith("_PORT")
    return str(link.port) if is_port else f"http://127.0.0.1:{link.port}"


def _at_once(act: Callable[[Program], None], programs: Sequence[Program]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(act, programs))


def _start(program: Program) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return program.start()
        except LocalClusterError:
            if time.monotonic() > deadline:
                raise
