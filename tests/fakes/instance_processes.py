"""Machines of the fake Compute Engine that are processes, each with a metadata server of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .instance_groups import Machine
from .metadata import FakeMetadata


class Processes:
    """A driver: a machine is a process, told by its environment who it is and where its metadata are.

    INSTANCE_NAME, INSTANCE_ID, INSTANCE_ZONE, INSTANCE_GROUP, INSTANCE_METADATA_URL. The power button is SIGTERM; what
    is left of its process group when the power goes is killed, as is all of it when we are.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._metadata: dict[str, FakeMetadata] = {}
        # The kernel kills a child when the thread that forked it ends: this one lives as long as we do.
        self._spawner = ThreadPoolExecutor(max_workers=1)

    def environment(self, machine: Machine, metadata_url: str) -> Mapping[str, str]:
        """What the process is told."""
        return {
            **os.environ,
            "INSTANCE_NAME": machine.name,
            "INSTANCE_ID": machine.id,
            "INSTANCE_ZONE": machine.zone,
            "INSTANCE_GROUP": machine.group,
            "INSTANCE_METADATA_URL": metadata_url,
        }

    def start(self, machine: Machine) -> None:
        metadata = FakeMetadata(name=machine.name, instance_id=int(machine.id))
        metadata.zone = f"projects/123456/zones/{machine.zone}"
        metadata.start()
        self._metadata[machine.id] = metadata
        environment = self.environment(machine, metadata.url)
        self._running[machine.id] = self._spawner.submit(self._spawn, environment).result()

    def preempt(self, machine: Machine) -> None:
        self._metadata[machine.id].preempt()

    def shut_down(self, machine: Machine) -> None:
        process = self._running.get(machine.id)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def power_off(self, machine: Machine) -> None:
        process = self._running.pop(machine.id, None)
        if process is None:
            return
        self._metadata.pop(machine.id).stop()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _spawn(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL", *self._command]
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


class SlaveProcesses(Processes):
    """A driver: a machine is a slave of one slot, with the settings of `configuration` and an identity of its own."""

    def __init__(self, command: Sequence[str], configuration: Path) -> None:
        super().__init__(command)
        self._configuration = configuration
        self._directories: dict[str, Path] = {}

    def environment(self, machine: Machine, metadata_url: str) -> Mapping[str, str]:
        # Task users pass through it.
        directory = Path(tempfile.mkdtemp(prefix=f"dist_test-{machine.name}-", dir="/var/tmp"))
        directory.chmod(0o711)
        self._directories[machine.id] = directory
        return {
            **os.environ,
            "DIST_TEST_CNF": str(self._configuration),
            "DIST_TEST_SLAVE_ID": machine.name,
            "DIST_TEST_SLAVE_INSTANCE_ID": machine.id,
            "DIST_TEST_SLAVE_ZONE": machine.zone,
            "DIST_TEST_SLAVE_MIG": machine.group,
            "DIST_TEST_SLAVE_METADATA_URL": metadata_url,
            "DIST_TEST_SLAVE_WORK_DIR": str(directory / "work"),
            "DIST_TEST_SLAVE_METRICS_BIND": "",
        }

    def power_off(self, machine: Machine) -> None:
        super().power_off(machine)
        if directory := self._directories.pop(machine.id, None):
            shutil.rmtree(directory, ignore_errors=True)  # a task's process may still be on its way out
