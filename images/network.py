"""A network of its own for machines: a bridge, a way out to the registries, and a place to look in from outside."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from images.commands import run, succeeds

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True, kw_only=True)
class Network:
    """`prefix` is a /24 without its last number, such as "10.77.0"; this machine is .1 on it.

    "Outside" is a network namespace of this machine on another /24 (third number xor 128). It reaches the machines
    by way of their gateway with its own address, as anybody on the far side of a router would.
    """

    prefix: str

    @property
    def subnet(self) -> IPv4Network:
        return IPv4Network(f"{self.prefix}.0/24")

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet[1]

    @property
    def bridge(self) -> str:
        return f"tb-{self._hex}"  # an interface's name has at most 15 characters

    @property
    def outside(self) -> str:
        """The name of the namespace."""
        return f"outside-{self.prefix}"

    @property
    def outside_subnet(self) -> IPv4Network:
        return IPv4Network((int(self.subnet.network_address) ^ 0x8000, 24))

    @property
    def _hex(self) -> str:
        return f"{int(self.subnet.network_address):08x}"

    @property
    def _table(self) -> str:
        return f"testbed_{self._hex}"

    @property
    def _outside_link(self) -> str:
        return f"to-{self._hex}"

    def ensure(self) -> None:
        """Bring up what of it is down. Forwarding stays on afterwards: others may have come to rely on it."""
        _FORWARDING.write_text("1")
        if not _has_link(self.bridge):
            run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "address", "replace", f"{self.gateway}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        run("nft", "-f", "-", text=self._ruleset())
        self._ensure_outside()

    def delete(self) -> None:
        """Take all of it away; what is not there is fine."""
        succeeds(["ip", "link", "delete", self._outside_link])
        succeeds(["ip", "netns", "delete", self.outside])
        succeeds(["ip", "link", "delete", self.bridge])
        succeeds(["nft", "delete", "table", "ip", self._table])

    def run_outside(self, command: Sequence[str], *, timeout_seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in the outside namespace; the caller looks at its status."""
        inside = ["ip", "netns", "exec", self.outside, *command]
        return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=timeout_seconds)

    def _ensure_outside(self) -> None:
        if _has_link(self._outside_link):
            return
        ours, theirs = self.outside_subnet[1], self.outside_subnet[2]
        if not succeeds(["ip", "netns", "exec", self.outside, "true"]):
            run("ip", "netns", "add", self.outside)
        run("ip", "link", "add", self._outside_link, "type", "veth", "peer", "name", "eth0", "netns", self.outside)
        run("ip", "address", "add", f"{ours}/24", "dev", self._outside_link)
        run("ip", "link", "set", self._outside_link, "up")
        for arguments in (
            ["address", "add", f"{theirs}/24", "dev", "eth0"],
            ["link", "set", "eth0", "up"],
            ["link", "set", "lo", "up"],
            ["route", "add", "default", "via", str(ours)],
        ):
            run("ip", "-netns", self.outside, *arguments)

    def _ruleset(self) -> str:
        """Naming the table before deleting it makes that work on the first run as well."""
        ways_in = f'{{ "{self.bridge}", "{self._outside_link}" }}'
        return f"""
            table ip {self._table}
            delete table ip {self._table}
            table ip {self._table} {{
                chain postrouting {{
                    type nat hook postrouting priority srcnat;
                    ip saddr {self.subnet} oifname != {ways_in} masquerade
                }}
            }}
        """


def links_of(bridge: str) -> list[str]:
    """The names of the interfaces that are joined to it."""
    listed = json.loads(run("ip", "-json", "link", "show", "master", bridge) or "[]")
    return [link["ifname"] for link in listed if "ifname" in link]


def _has_link(name: str) -> bool:
    return succeeds(["ip", "link", "show", name])
