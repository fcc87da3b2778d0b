"""Free loopback ports that stay the same from one start to the next."""

import json
import random
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

# Below Linux's default range for outgoing connections (32768 and up), so that a client's socket can't take a port that
# one of our servers had yesterday and wants again.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Say whether a server could listen on 127.0.0.1:`port` now. Somebody else may take it a moment later."""
    with socket.socket() as probe:
        # Connections of an earlier server may linger in TIME_WAIT; every server of ours sets this option as well.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a loopback port that nobody listens on at the moment."""
    while not is_free(port := random.choice(_RANGE)):
        pass
    return port


def choose_ports(path: Path, names: Sequence[str], fixed: Mapping[str, int]) -> dict[str, int]:
    """Give each name a port: its fixed one, else the one remembered in `path` if it is free, else a new one.

    What was chosen is remembered in `path`, whose directory must exist.
    """
    remembered = read_ports(path)
    ports = {name: _choose(fixed.get(name), remembered.get(name)) for name in names}
    while len(set(ports.values())) < len(ports):
        ports = {name: fixed.get(name) or free_port() for name in names}
    path.write_text(json.dumps(ports))
    return ports


def read_ports(path: Path) -> dict[str, int]:
    """The ports remembered in `path` by name; empty when there are none yet."""
    if not path.exists():
        return {}
    ports: dict[str, int] = json.loads(path.read_text())
    return ports


def _choose(fixed: int | None, remembered: int | None) -> int:
    if fixed is not None:
        return fixed
    if remembered is not None and is_free(remembered):
        return remembered
    return free_port()
