"""`dist-test-autoscale run` as a process of a test's own."""

import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from dist_test.local.ports import free_port
from dist_test.local.program import beside_python
from dist_test.storage.autoscaling import Autoscaling

INTERVAL_S = 2
_REPLACED = ("interval_s", "listen", "api_endpoint")


class Program:
    """A running service. `log` is what it says."""

    def __init__(self, config: Path, port: int) -> None:
        self.port = port
        self.log = config.with_suffix(".log")
        with self.log.open("w") as stream:
            command = [beside_python("dist-test-autoscale"), "run", "--config", str(config)]
            self.process = subprocess.Popen(command, stderr=stream)

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_healthy(self) -> bool:
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def get(self, page: str) -> tuple[int, str]:
        """Status and text of a page. Raises OSError."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    def kill(self) -> None:
        """End it, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def start_program(written: str, endpoint: str, config: Path) -> Program:
    """Start a service with a configuration, but with quick rounds, a port of its own and this API."""
    port = free_port()
    lines = [line for line in written.splitlines() if not line.startswith(_REPLACED)]
    own = (f"interval_s = {INTERVAL_S}", f'listen = "127.0.0.1:{port}"', f'api_endpoint = "{endpoint}"')
    place = lines.index("[autoscale]") + 1
    config.write_text("\n".join([*lines[:place], *own, *lines[place:]]))
    return Program(config, port)


def standing_epoch(records: Autoscaling) -> int:
    standing = records.standing()
    return 0 if standing is None else standing.epoch


def leads(records: Autoscaling, program: Program) -> bool:
    standing = records.standing()
    return standing is not None and standing.leader.endswith(f":{program.pid}")
