"""Give pyinfra the hosts of an Ansible inventory. Each inventories/NAME.py is this:

    from inventories import loader
    globals().update(loader.groups(__file__))

What roles need on a host, secrets too, stays in this module: pyinfra prints the data of its own inventory.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inventories.cluster import ROOT, Cluster, InventoryError, ResolvedHost

# pyinfra's names of hosts; filled by `groups`, before any role runs.
_hosts: dict[str, ResolvedHost] = {}
_LOCAL = "@local"


def groups(inventory_file: str, *, is_cluster: bool = True) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Lists of (host, connection data) by group, for inventories/NAME.py of the directory inventories/NAME.

    Without is_cluster, what a cluster must have is not asked for: an image is one host with no servers.
    Ends the program with one line on stderr when the inventory is wrong.
    """
    try:
        cluster = load(Path(inventory_file).resolve().with_suffix(""), is_cluster=is_cluster)
        _remember(cluster)
    except InventoryError as exc:
        sys.exit(f"inventories: {exc}")
    return {name: [_host(cluster, member) for member in members] for name, members in cluster.groups.items()}


def load(directory: Path, *, is_cluster: bool = True) -> Cluster:
    """Check the inventory, if it is a cluster's, then resolve it. Raises InventoryError."""
    if is_cluster:
        sys.stderr.write(_run("inventories.check", directory))  # warnings, or that all is well
    return Cluster.from_json(_run("inventories.resolver", directory))


def resolved(name: str) -> ResolvedHost:
    """What was resolved for the host that pyinfra calls `name`."""
    return _hosts[name]


def _remember(cluster: Cluster) -> None:
    for name, host in cluster.hosts.items():
        key = pyinfra_name(name, host.connection)
        if key in _hosts:
            raise InventoryError(f"host {name}: pyinfra can have one host with ansible_connection local")
        _hosts[key] = host


def _host(cluster: Cluster, name: str) -> tuple[str, dict[str, Any]]:
    connection = dict(cluster.hosts[name].connection)
    key = pyinfra_name(name, connection)
    connection.pop("local", None)
    return key, connection


def pyinfra_name(name: str, connection: Mapping[str, Any]) -> str:
    """What pyinfra calls the host: it has one name for the computer it runs on."""
    return _LOCAL if connection.get("local") else name


def _run(module: str, directory: Path) -> str:
    """Standard output of one of our programs, in a process of its own (see the resolver)."""
    command = [sys.executable, "-m", module, str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InventoryError(done.stderr.strip().removeprefix("inventories: ") or done.stdout.strip())
    return done.stdout
