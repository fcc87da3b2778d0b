"""dist_test's own services as child processes: master, isolate server, slaves."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from dist_test.errors import LocalClusterError
from dist_test.local.configuration import clean_environment
from dist_test.local.program import Program, beside_python, is_ok

_START_LIMIT = timedelta(seconds=30)


class Service(Program):
    """One of our programs: reads `configuration`, answers on `http_path` of its port `http`."""

    program: str
    arguments: tuple[str, ...] = ()
    port_names = ("http",)
    http_path = "/healthz"
    start_limit = _START_LIMIT

    def __init__(self, state_dir: Path, configuration: Path) -> None:
        super().__init__(state_dir)
        self._configuration = configuration

    @property
    def port(self) -> int:
        return self.ports["http"]

    def _command(self) -> Sequence[str]:
        return [beside_python(self.program), *self.arguments]

    def _environment(self) -> Mapping[str, str]:
        return clean_environment(os.environ) | {"DIST_TEST_CNF": str(self._configuration)}

    def _answers(self) -> bool:
        return is_ok(self.port, self.http_path)


class IsolateServer(Service):
    name = "isolate"
    program = "dist-test-isolate"


class Master(Service):
    name = "master"
    program = "dist-test-master"
    arguments = ("serve",)

    def migrate(self) -> None:
        """Bring the database's schema up to date. Raises LocalClusterError with what the command printed."""
        command = [beside_python(self.program), "migrate"]
        done = subprocess.run(
            command, env=self._environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise LocalClusterError(
                f"`dist-test-master migrate` ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )


class Slave(Service):
    program = "dist-test-slave"
    http_path = "/metrics"
    # Longer than the drain of its configuration, and its uploads.
    stop_limit = timedelta(seconds=20)

    def __init__(self, state_dir: Path, configuration: Path, *, number: int, slots: int) -> None:
        super().__init__(state_dir, configuration)
        self.name = f"slave-{number}"
        self.arguments = ("--slots", str(slots))

    def _prepare(self) -> None:
        # Task users pass through to their trees.
        self.state_dir.chmod(0o711)

    def _environment(self) -> Mapping[str, str]:
        own = {
            "DIST_TEST_SLAVE_ID": self.name,
            "DIST_TEST_SLAVE_WORK_DIR": str((self.state_dir / "work").absolute()),
            "DIST_TEST_SLAVE_METRICS_BIND": f"127.0.0.1:{self.port}",
        }
        return {**super()._environment(), **own}
