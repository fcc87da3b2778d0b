"""The secrets of the testbed's inventory, and who shows them to whom while tools work with them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inventories.cluster import Cluster

_PAUSE_SECONDS = 0.1
_NAMES = ("_password", "_secret_key", "_token_key")


def secrets_of(cluster: Cluster) -> list[str]:
    """Every password and key that a role is told."""
    roles = [role for host in cluster.hosts.values() for role in host.roles.values()]
    return sorted({secret for role in roles for name, value in role.vars.items() for secret in _secrets(name, value)})


def _secrets(name: str, value: Any) -> Sequence[str]:
    if name == "master_accounts":
        return list(value.values())
    return [value] if name.endswith(_NAMES) and value else []


@dataclass(kw_only=True)
class CommandLines:
    """Those with a secret in them, of all processes of this computer: its machines' programs are among them."""

    secrets: Sequence[str]
    found: set[str] = field(default_factory=set)
    rounds: int = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look ten times a second; a program that ends sooner may be missed."""
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=[stop])
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(_PAUSE_SECONDS):
            self.rounds += 1
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                self._look_at(path)

    def _look_at(self, path: Path) -> None:
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return  # it has ended
        if any(secret in words for secret in self.secrets):
            self.found.add(words)
