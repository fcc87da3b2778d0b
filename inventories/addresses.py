"""Rules on addresses, networks and ports."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import combinations
from typing import Any

from inventories.model import Host, Inventory, Mistake, Rule, scalars

# RFC 5737, RFC 3849 and RFC 2606: addresses and names that stand in examples and belong to nobody.
EXAMPLE_NETWORKS = tuple(
    ip_network(network) for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)
EXAMPLE_NAME = re.compile(r"(?:\A|[/@.])example(?:\.(?:com|org|net))?\Z|\Aexample-[\w-]+\Z")
EVERYWHERE = frozenset(("0.0.0.0", "::", "*", ""))
# Ports that a role opens without a variable of its own.
FIXED_PORTS: Mapping[str, tuple[int, ...]] = {"master": (80, 443)}
SSH_PORT = 22


def addresses_are_distinct(inventory: Inventory) -> Iterator[Mistake]:
    for name in ("ansible_host", "cluster_address"):
        seen: dict[str, Host] = {}
        for host in inventory.hosts:
            address = str(host.get(name) or "")
            twin = seen.setdefault(address, host) if address else host
            # Behind one address may be several hosts when each has an SSH port of its own.
            if twin is not host and not (name == "ansible_host" and _ssh_port(twin) != _ssh_port(host)):
                yield Mistake(
                    place=inventory.place_for(host, name),
                    key=name,
                    wrong=f"{host.name} has the address {address} of {twin.name}",
                    instead="give each host its own",
                )


def _ssh_port(host: Host) -> Any:
    return host.get("ansible_port") or SSH_PORT


def logins_become_root(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        user = host.get("ansible_user")
        if user and user != "root" and not host.get("ansible_become"):
            yield Mistake(
                place=inventory.place_for(host, "ansible_user"),
                key="ansible_user",
                wrong=f"{user} would set up {host.name} without being root there",
                instead="write ansible_become: true beside it, for sudo",
            )


def hosts_can_reach_each_other(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts if len(inventory.hosts) > 1 else ():
        address = str(host.get("cluster_address") or "")
        if address == "localhost" or _is_loopback(address):
            yield Mistake(
                place=inventory.place_for(host, "cluster_address"),
                key="cluster_address",
                wrong=f"no other host can reach {host.name} as {address}",
                instead="write its address in the cluster's network",
            )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def nothing_is_left_of_the_example(inventory: Inventory) -> Iterator[Mistake]:
    for entry in inventory.entries:
        for value in scalars(entry.value):
            if is_from_example(value):
                yield Mistake(
                    place=entry.place,
                    key=entry.name,
                    wrong=f"{value} comes from the example and exists nowhere",
                    instead="write your own",
                )


def is_from_example(value: Any) -> bool:
    """Whether a value is an address, network or name that is reserved for examples."""
    if not isinstance(value, str):
        return False
    network = _network(value.partition("://")[2].partition(":")[0] or value)
    if network is None:
        return bool(EXAMPLE_NAME.search(value.lower()))
    return any(network.version == example.version and network.subnet_of(example) for example in EXAMPLE_NETWORKS)  # type: ignore[arg-type]  # same version


def networks_are_networks(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        for name in sorted(name for name in host.values if name.endswith("_networks")):
            values = host.get(name)
            if isinstance(values, str) and inventory.entry_for(host, name):
                instead = "write a list, `- value` lines below it"
                yield Mistake(place=inventory.place_for(host, name), key=name, wrong="it is no list", instead=instead)
            for value in values if isinstance(values, list) else ():
                if wrong := _wrong_network(str(value)):
                    instead = "write ADDRESS/BITS with nothing but zeros after the first BITS, such as 10.20.0.0/16"
                    yield Mistake(place=inventory.place_for(host, name), key=name, wrong=wrong, instead=instead)


def _wrong_network(value: str) -> str | None:
    if _network(value) is not None:
        return None
    try:
        return f"{value} has an address of a host, its network is {ip_network(value, strict=False)}"
    except ValueError:
        return f"{value} is no network"


def _network(value: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(value)
    except ValueError:
        return None


def networks_are_not_the_world(inventory: Inventory) -> Iterator[Mistake]:
    consequences = {
        "master_allowed_networks": "everybody who reaches the master may submit without a password",
        "base_trusted_networks": "the firewall lets everybody in",
        "cluster_networks": "every host in the world counts as one of the cluster's",
    }
    for host in inventory.hosts:
        for name, wrong in consequences.items():
            networks = host.get(name) if isinstance(host.get(name), list) else []
            if any(str(network).endswith("/0") for network in networks or ()):
                place = inventory.place_for(host, name)
                yield Mistake(place=place, key=name, wrong=wrong, instead="name your own networks", is_warning=True)


def hosts_have_networks(inventory: Inventory) -> Iterator[Mistake]:
    """Without networks the firewalls keep the hosts from each other."""
    walled = [host for host in inventory.hosts if host.get("base_firewall") and not host.get("base_trusted_networks")]
    if len(inventory.hosts) > 1 and walled:
        yield Mistake(
            place=inventory.place_of_group("cluster"),
            key="cluster_networks",
            wrong=f"it is empty, so the firewall of {walled[0].name} keeps the other hosts out",
            instead="list the networks of the cluster's hosts in group_vars/cluster/",
        )


def hosts_are_in_their_networks(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        address, networks = _network(str(host.get("cluster_address") or "")), host.get("cluster_networks")
        known = [network for value in networks if (network := _network(str(value)))] if networks else []
        if address and known and not address.is_loopback and not any(_holds(network, address) for network in known):
            yield Mistake(
                place=inventory.place_for(host, "cluster_address"),
                key="cluster_address",
                wrong=f"{address.network_address} of {host.name} is in none of cluster_networks, so firewalls drop it",
                instead="add its network to cluster_networks",
            )


def _holds(network: IPv4Network | IPv6Network, inner: IPv4Network | IPv6Network) -> bool:
    return network.version == inner.version and inner.subnet_of(network)  # type: ignore[arg-type]  # same version


def ports_do_not_clash(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts:
        for (name, bind, port), (other, other_bind, other_port) in combinations(_listeners(host), 2):
            if port == other_port and (bind == other_bind or EVERYWHERE & {bind, other_bind}):
                yield Mistake(
                    place=inventory.place_for(host, other),
                    key=other,
                    wrong=f"{name} of {host.name} is port {port} too",
                    instead="choose another port for one of them",
                )


def _listeners(host: Host) -> Iterator[tuple[str, str, int]]:
    """Name, address and number of each port that the host's roles listen on."""
    yield "SSH", "", int(_ssh_port(host))
    for role in host.roles:
        bind = str(host.get(f"{role}_bind_address") or "")
        for number in FIXED_PORTS.get(role, ()):
            yield f"{role}'s nginx", "", number
        if str(host.get(f"{role}_port")).isdigit():
            yield f"{role}_port", bind, int(host.get(f"{role}_port"))


RULES: tuple[Rule, ...] = (
    addresses_are_distinct,
    logins_become_root,
    hosts_can_reach_each_other,
    nothing_is_left_of_the_example,
    networks_are_networks,
    networks_are_not_the_world,
    hosts_have_networks,
    hosts_are_in_their_networks,
    ports_do_not_clash,
)
