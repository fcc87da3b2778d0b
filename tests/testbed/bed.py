"""The hosts of inventories/testbed as machines of this computer."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from pathlib import Path

from images.commands import MachineError
from images.machine import Machine, make_key
from images.network import Network
from images.root_tree import RootTree

# Last number of the address by name, as inventories/testbed has them.
HOSTS = {"master1": 11, "database1": 12, "queue1": 13, "slave1": 14, "slave2": 15}


@dataclass(frozen=True, kw_only=True)
class Bed:
    """A network and the hosts on it. `state_dir` holds their disks, the operators' `key` and `known_hosts`."""

    state_dir: Path
    network: Network
    tree: RootTree = field(default_factory=RootTree)
    layers: tuple[Path, ...] = ()

    @classmethod
    def from_environment(cls) -> "Bed":
        """As TESTBED_NETWORK and TESTBED_STATE say; the inventory reads the same two."""
        # Not /tmp, which is often in memory: the five take a gigabyte.
        state_dir = Path(os.environ.get("TESTBED_STATE", "/var/tmp/dist_test-testbed"))
        return cls(state_dir=state_dir, network=Network(prefix=os.environ.get("TESTBED_NETWORK", "10.77.0")))

    @property
    def key_path(self) -> Path:
        return self.state_dir / "key"

    def host(self, name: str) -> Machine:
        """Raises MachineError for a name that the inventory does not have."""
        if name not in HOSTS:
            raise MachineError(f"there is no host {name}; there are {', '.join(HOSTS)}")
        return Machine(
            name=name,
            address=self.address(name),
            directory=self.state_dir / "hosts" / name,
            network=self.network,
            tree=self.tree,
            key=self.key_path,
            layers=self.layers,
        )

    def address(self, name: str) -> IPv4Address:
        return self.network.subnet[HOSTS[name]]

    def up(self, names: Iterable[str] = HOSTS) -> None:
        """Start those that are off, and return when people can log in to all of these."""
        hosts = [self.host(name) for name in names]
        self._prepare()
        for host in hosts:
            host.start()
        self._write_known_hosts()
        _wait_for_all(hosts)

    def reset(self, names: Iterable[str] = HOSTS) -> None:
        """As `up`, with empty disks."""
        names = tuple(names)
        self._delete(names)
        self.up(names)

    def down(self, names: Iterable[str] = HOSTS) -> None:
        """Remove them with their disks; with the last one goes the network."""
        self._delete(tuple(names))
        if not any(self.host(name).is_on for name in HOSTS):
            self.network.delete()

    def power_off(self, names: Iterable[str] = HOSTS) -> None:
        """Pull the plug of each; the disks stay."""
        for name in names:
            self.host(name).power_off()

    def with_layers(self, *layers: Path) -> "Bed":
        """The same with these directories above the tree of hosts that get a fresh disk."""
        return replace(self, layers=layers)

    def _prepare(self) -> None:
        self.tree.ensure()
        self.state_dir.mkdir(parents=True, exist_ok=True)
        if not self.key_path.exists():
            make_key(self.key_path)
        self.network.ensure()

    def _delete(self, names: tuple[str, ...]) -> None:
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            list(pool.map(lambda name: self.host(name).delete(), names))

    def _write_known_hosts(self) -> None:
        lines = [f"{self.address(name)} {self.host(name).host_key}\n" for name in HOSTS]
        (self.state_dir / "known_hosts").write_text("".join(lines))


def _wait_for_all(hosts: list[Machine]) -> None:
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        list(pool.map(Machine.wait_for_ssh, hosts))
