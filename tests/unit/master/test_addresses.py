"""Whose request it is: behind proxies, in both families of addresses, whatever the client claims."""

import ipaddress

import pytest

from dist_test.master.addresses import client_address, is_within, parse_address
from dist_test.settings.values import networks

PROXIES = networks("10.0.0.0/8, fd00::/8")


@pytest.mark.parametrize(
    ("text", "ranges", "expected"),
    [
        pytest.param("127.0.0.1", "127.0.0.0/8, ::1/128", True, id="loopback"),
        pytest.param("::1", "127.0.0.0/8, ::1/128", True, id="loopback of IPv6"),
        pytest.param("::ffff:127.0.0.1", "127.0.0.0/8", True, id="IPv4 as IPv6"),
        pytest.param("::ffff:192.0.2.7", "127.0.0.0/8", False, id="IPv4 as IPv6, outside"),
        pytest.param("192.0.2.7", "127.0.0.0/8, ::1/128", False, id="outside"),
        pytest.param("2001:db8::7", "2001:db8::/32", True, id="IPv6 range"),
        pytest.param("2001:db9::7", "2001:db8::/32", False, id="outside of IPv6 range"),
        pytest.param("192.0.2.7", "2001:db8::/32", False, id="other family"),
        pytest.param("192.0.2.7", "", False, id="no ranges"),
        pytest.param("", "0.0.0.0/0, ::/0", False, id="no address"),
        pytest.param("unix:", "0.0.0.0/0, ::/0", False, id="not an address"),
    ],
)
def test_an_address_is_in_a_range_or_is_not(text: str, ranges: str, expected: bool) -> None:
    assert is_within(parse_address(text), networks(ranges)) is expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        pytest.param("192.0.2.7", [], "192.0.2.7", id="no proxy"),
        pytest.param("192.0.2.7", ["127.0.0.1"], "192.0.2.7", id="forged by a stranger"),
        pytest.param("10.0.0.1", ["192.0.2.7"], "192.0.2.7", id="one proxy"),
        pytest.param("10.0.0.1", ["127.0.0.1", "192.0.2.7"], "192.0.2.7", id="forged through a proxy"),
        pytest.param("10.0.0.1", ["192.0.2.7", " 10.9.9.9"], "192.0.2.7", id="two proxies"),
        pytest.param("fd00::1", ["2001:db8::7"], "2001:db8::7", id="IPv6"),
        pytest.param("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7", id="proxy as IPv6"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="the proxy itself asks"),
        pytest.param("10.0.0.1", ["10.0.0.2"], "10.0.0.2", id="proxies all the way"),
        pytest.param("10.0.0.1", ["127.0.0.1", "nonsense"], None, id="nonsense from a proxy"),
        pytest.param("10.0.0.1", ["127.0.0.1", ""], None, id="empty item"),
    ],
)
def test_the_rightmost_address_that_is_no_proxy_of_ours_counts(
    peer: str, forwarded: list[str], expected: str | None
) -> None:
    assert client_address(peer, forwarded, PROXIES) == (expected and ipaddress.ip_address(expected))
