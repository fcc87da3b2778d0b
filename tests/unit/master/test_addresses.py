"""Whose request it is: behind proxies, in both families of addresses, whatever the client claims."""

import ipaddress
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse

import pytest

from dist_test.master.addresses import FrontDoor, client_address, is_within, parse_address, with_single_slashes
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


@pytest.mark.parametrize(
    ("path", "expected"),
    [("//retry_task", "/retry_task"), ("/a///b//", "/a/b/"), ("/plain", "/plain"), ("", "")],
)
def test_runs_of_slashes_become_one(path: str, expected: str) -> None:
    assert with_single_slashes(path) == expected


def seen_by_application(**environ: str) -> dict[str, Any]:
    """What the application behind the door is handed."""
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        seen.update(environ)
        return []

    def start(*_: object) -> Any:
        raise AssertionError("nobody answers here")

    given = {"PATH_INFO": "/", "wsgi.url_scheme": "http", "HTTP_HOST": "inside:8081", **environ}
    FrontDoor(application, PROXIES)(given, start)
    return seen


def test_a_trusted_proxy_tells_the_scheme_and_the_host_that_the_client_used() -> None:
    seen = seen_by_application(
        REMOTE_ADDR="10.0.0.1",
        HTTP_X_FORWARDED_FOR="192.0.2.7",
        HTTP_X_FORWARDED_PROTO="https",
        HTTP_X_FORWARDED_HOST="master.example.com",
    )

    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == (
        "192.0.2.7",
        "https",
        "master.example.com",
    )


def test_a_stranger_tells_nothing() -> None:
    seen = seen_by_application(
        REMOTE_ADDR="192.0.2.7",
        HTTP_X_FORWARDED_FOR="127.0.0.1",
        HTTP_X_FORWARDED_PROTO="https",
        HTTP_X_FORWARDED_HOST="elsewhere.example.com",
    )

    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("192.0.2.7", "http", "inside:8081")


def test_double_slashes_do_not_reach_the_application() -> None:
    assert seen_by_application(PATH_INFO="//retry_task", REMOTE_ADDR="192.0.2.7")["PATH_INFO"] == "/retry_task"
