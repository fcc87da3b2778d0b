"""Who is asking: addresses as allowed ranges see them, behind proxies or not. PURE."""

import ipaddress
from collections.abc import Iterable, Sequence

from dist_test.settings.values import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> Address | None:
    """The address in a text, None when there is none; ::ffff:192.0.2.1 is the IPv4 address that it stands for."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_within(address: Address | None, networks: Sequence[Network]) -> bool:
    """Whether the address is in one of the ranges. No address is in none."""
    return address is not None and any(address in network for network in networks)


def client_address(peer: str, forwarded: Iterable[str], trusted: Sequence[Network]) -> Address | None:
    """The address that a request comes from: the peer's, or, through proxies that we trust, what they say it is.

    `forwarded` are the items of X-Forwarded-For from left to right. Each proxy adds its peer on the right, and a
    client can write to the left of that what it likes: so the rightmost one that is no proxy of ours counts. None when
    that is not an address.
    """
    for text in (peer, *reversed(list(forwarded))):
        address = parse_address(text)
        if not is_within(address, trusted):
            return address
    return address
