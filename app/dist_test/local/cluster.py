"""The whole cluster: brought up in order, kept up, taken down."""

import logging
import os
import pwd
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.configuration import BUCKET, Addresses, Files, env_line, write_configurations
from dist_test.local.daemons import Beanstalkd, MariaDb, SeaweedFs
from dist_test.local.program import Program
from dist_test.local.services import IsolateServer, Master, Service, Slave
from dist_test.local.status import ClusterStatus, ProgramStatus, hold_lock
from dist_test.storage.results import Bucket

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 30.0
_STEADY_SECONDS = 60.0  # a program that ran this long starts again with the first delay
_TASK_USER_PREFIX = "dist-test-task"


@dataclass
class _Restart:
    """When a program that died is started again: after 1, 2, 4 ... 30 s."""

    started_at: float
    delay_seconds: float = _FIRST_DELAY_SECONDS
    due_at: float | None = None


class Cluster:
    """A cluster in one state directory. `say` gets a sentence at each step, for people."""

    def __init__(self, state_dir: Path, *, slaves: int, slots: int, say: Callable[[str], None]) -> None:
        self.files = Files(state_dir=state_dir)
        configuration = self.files.service_configuration
        self.mariadb = MariaDb(state_dir / "mariadb")
        self.beanstalkd = Beanstalkd(state_dir / "beanstalkd")
        self.seaweedfs = SeaweedFs(state_dir / "seaweedfs")
        self.isolate = IsolateServer(state_dir / "isolate", configuration)
        self.master = Master(state_dir / "master", configuration)
        self.slaves = [
            Slave(state_dir / f"slave-{number}", configuration, number=number, slots=slots) for number in range(slaves)
        ]
        self._slots = slots
        self._say = say
        self._stopping = threading.Event()
        self._restarts: dict[str, _Restart] = {}

    @property
    def programs(self) -> Sequence[Program]:
        """In the order in which they start; they stop in the opposite one."""
        return (self.mariadb, self.beanstalkd, self.seaweedfs, self.isolate, self.master, *self.slaves)

    def run(self) -> None:
        """Keep the cluster up until SIGINT, SIGTERM or SIGHUP; call it from the main thread.

        Raises LocalClusterError when a cluster is up in the state directory already, or a program does not start.
        """
        self.files.make()
        with hold_lock(self.files):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: self._stopping.set())
            try:
                self._bring_up()
                self._keep_up()
            finally:
                self._take_down()

    def _bring_up(self) -> None:
        """1. What holds data, side by side. 2. Configuration, schema, bucket. 3. The services. 4. The slaves."""
        started_at = time.monotonic()
        if self.mariadb.state_dir.exists():
            self._say(f"using the data in {self.files.state_dir}")
        self._announce_task_users()
        self._start((self.mariadb, self.beanstalkd, self.seaweedfs))
        services: tuple[Service, ...] = (self.isolate, self.master, *self.slaves)
        for service in services:
            service.reserve_ports()
        write_configurations(self.files, self._addresses, self.mariadb, self.beanstalkd, self.seaweedfs)
        self._start_each((self.master.migrate, self._make_bucket))
        self._start((self.isolate, self.master))
        self._start(self.slaves)
        if not self._stopping.is_set():
            self._write_status(is_ready=True)
            self._say(f"ready after {time.monotonic() - started_at:.1f} s: {self._addresses.master_url}")
            self._say(f"to use it in another shell: {env_line(self.files.state_dir)}")

    def _announce_task_users(self) -> None:
        if os.geteuid() != 0:
            return self._say("not root, so tasks run as you and could read your files")
        names = [f"{_TASK_USER_PREFIX}{number}" for number in range(len(self.slaves) * self._slots)]
        known = {user.pw_name for user in pwd.getpwall()}
        if missing := [name for name in names if name not in known]:
            self._say(f"creating the users that tasks run as: {', '.join(missing)}")
        return None

    def _make_bucket(self) -> None:
        Bucket(
            name=BUCKET,
            endpoint_url=self.seaweedfs.endpoint_url,
            access_key=self.seaweedfs.access_key,
            secret_key=self.seaweedfs.secret_key,
            region=self.seaweedfs.region,
        ).ensure_exists()

    def _start(self, programs: Iterable[Program]) -> None:
        self._start_each([program.start for program in programs])
        for program in programs:
            program.keep_ports()
            self._restarts[program.name] = _Restart(started_at=time.monotonic())
        self._write_status(is_ready=False)

    def _start_each(self, steps: Sequence[Callable[[], None]]) -> None:
        """Do the steps side by side, unless we are to stop."""
        if self._stopping.is_set() or not steps:
            return
        with ThreadPoolExecutor(max_workers=len(steps)) as threads:
            list(threads.map(lambda step: step(), steps))

    def _keep_up(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            for program in self.programs:
                if not program.is_running:
                    self._restart(program)

    def _restart(self, program: Program) -> None:
        restart, now = self._restarts[program.name], time.monotonic()
        if restart.due_at is None:
            if now - restart.started_at > _STEADY_SECONDS:
                restart.delay_seconds = _FIRST_DELAY_SECONDS
            restart.due_at = now + restart.delay_seconds
            self._say(
                f"{program.name} ended with exit status {program.exit_status} (see {program.log_path});"
                f" starting it again in {restart.delay_seconds:g} s"
            )
            self._write_status(is_ready=True)
        elif now >= restart.due_at:
            self._restarts[program.name] = self._start_again(program, restart)
            self._write_status(is_ready=True)

    def _start_again(self, program: Program, restart: _Restart) -> _Restart:
        longer = min(restart.delay_seconds * 2, _LONGEST_DELAY_SECONDS)
        try:
            program.start()
            self._say(f"{program.name} is up again (pid {program.pid})")
        except LocalClusterError as error:
            self._say(str(error))
        return _Restart(started_at=time.monotonic(), delay_seconds=longer)

    def _take_down(self) -> None:
        self._say("stopping")
        for group in (self.slaves, (self.master, self.isolate), (self.seaweedfs, self.beanstalkd, self.mariadb)):
            with ThreadPoolExecutor(max_workers=max(1, len(group))) as threads:
                list(threads.map(lambda program: program.stop(), group))
        self.files.status.unlink(missing_ok=True)
        self._say(f"stopped; the data stays in {self.files.state_dir}")

    @property
    def _addresses(self) -> Addresses:
        return Addresses(master=self.master.port, isolate=self.isolate.port)

    def _write_status(self, *, is_ready: bool) -> None:
        ClusterStatus(
            is_ready=is_ready,
            master_url=self._addresses.master_url if self.master.ports else "",
            isolate_url=self._addresses.isolate_url if self.isolate.ports else "",
            programs=tuple(_row(program) for program in self.programs if program.was_started),
        ).write(self.files.status)


def _row(program: Program) -> ProgramStatus:
    address = f"127.0.0.1:{program.ports[program.port_names[0]]}" if program.port_names else ""
    state = "up" if program.is_running else f"ended with exit status {program.exit_status}"
    return ProgramStatus(name=program.name, pid=program.pid, address=address, state=state)
