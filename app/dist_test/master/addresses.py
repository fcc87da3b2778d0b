"""Who is asking: addresses as allowed ranges see them, behind proxies or not."""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from dist_test.settings.values import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SLASHES = re.compile(r"/{2,}")


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


class FrontDoor:
    """WSGI middleware that puts right what an application would otherwise have to see to at every turn.

    A path with double slashes is taken as one with single ones: the original's slaves ask for `//retry_task`, and a
    redirect would lose the form. Behind a trusted proxy, address, scheme and host become the client's.
    """

    def __init__(self, application: WSGIApplication, trusted: Sequence[Network]) -> None:
        self._application = application
        self._trusted = trusted

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = with_single_slashes(environ.get("PATH_INFO", ""))
        if is_within(parse_address(environ.get("REMOTE_ADDR", "")), self._trusted):
            self._see_through_proxy(environ)
        return self._application(environ, start_response)

    def _see_through_proxy(self, environ: dict[str, Any]) -> None:
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        items = forwarded.split(",") if forwarded else []
        environ["REMOTE_ADDR"] = str(client_address(environ["REMOTE_ADDR"], items, self._trusted) or "")
        if environ.get("HTTP_X_FORWARDED_PROTO") in ("http", "https"):
            environ["wsgi.url_scheme"] = environ["HTTP_X_FORWARDED_PROTO"]
        if host := environ.get("HTTP_X_FORWARDED_HOST"):
            environ["HTTP_HOST"] = host


def with_single_slashes(path: str) -> str:
    """The path with each run of slashes as one."""
    return _SLASHES.sub("/", path)
