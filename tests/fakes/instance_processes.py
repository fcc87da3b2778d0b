"""Machines of the fake Compute Engine that are processes, each with a metadata server of its own."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

from .instance_groups import Machine
from .metadata import FakeMetadata


class Processes:
    """A driver: a machine is a process, told by its environment who it is and where its metadata are.

    INSTANCE_NAME, INSTANCE_ID, INSTANCE_ZONE, INSTANCE_GROUP, INSTANCE_METADATA_URL. The power button is SIGTERM; what
    is left of its process group when the power goes is killed. `extra` comes on top of our own environment.
    """

    def __init__(self, command: Sequence[str], extra: dict[str, str] | None = None) -> None:
        self._command = command
        self._environment = {**os.environ, **(extra or {})}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._metadata: dict[str, FakeMetadata] = {}

    def start(self, machine: Machine) -> None:
        metadata = FakeMetadata(name=machine.name, instance_id=int(machine.id))
        metadata.zone = f"projects/123456/zones/{machine.zone}"
        metadata.start()
        self._metadata[machine.id] = metadata
        told = {
            "INSTANCE_NAME": machine.name,
            "INSTANCE_ID": machine.id,
            "INSTANCE_ZONE": machine.zone,
            "INSTANCE_GROUP": machine.group,
            "INSTANCE_METADATA_URL": metadata.url,
        }
        process = subprocess.Popen(self._command, env={**self._environment, **told}, start_new_session=True)
        self._running[machine.id] = process

    def preempt(self, machine: Machine) -> None:
        self._metadata[machine.id].preempt()

    def shut_down(self, machine: Machine) -> None:
        process = self._running.get(machine.id)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def power_off(self, machine: Machine) -> None:
        if machine.id not in self._running:
            return
        self._metadata.pop(machine.id).stop()
        process = self._running.pop(machine.id)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
