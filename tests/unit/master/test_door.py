"""What the application is handed, and what not."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any
from wsgiref.types import StartResponse

import pytest
from werkzeug.exceptions import RequestEntityTooLarge

from dist_test.master.door import BoundedBody, FrontDoor, with_single_slashes
from dist_test.settings.values import networks

PROXIES = networks("10.0.0.0/8")


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

    given = {"PATH_INFO": "/", "CONTENT_LENGTH": "0", "wsgi.url_scheme": "http", "HTTP_HOST": "inside:8081", **environ}
    FrontDoor(application, trusted=PROXIES, max_body_bytes=10)(given, start)
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


def test_a_body_of_unknown_length_ends_where_it_gets_too_long() -> None:
    body = BoundedBody(BytesIO(b"x" * 11), 10)

    assert body.read(6) == b"x" * 6
    with pytest.raises(RequestEntityTooLarge):
        body.read(6)


def test_a_body_below_the_limit_is_read_to_its_end() -> None:
    body = BoundedBody(BytesIO(b"x" * 9), 10)

    assert body.read() + body.read() == b"x" * 9
