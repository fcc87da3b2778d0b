"""WSGI middleware that puts right what an application would otherwise have to see to at every turn."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from wsgiref.types import StartResponse, WSGIApplication

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from dist_test.errors import shortened
from dist_test.master.addresses import client_address, is_within, parse_address
from dist_test.serving import MalformedBody
from dist_test.settings.values import Network

_SLASHES = re.compile(r"/{2,}")


class FrontDoor:
    """What comes in through here has one form.

    A path with double slashes is taken as one with single ones: the original's slaves ask for `//retry_task`, and a
    redirect would lose the form. Behind a trusted proxy, address, scheme and host become the client's. A body whose
    length is not announced is refused where it gets too long.
    """

    def __init__(self, application: WSGIApplication, *, trusted: Sequence[Network], max_body_bytes: int) -> None:
        self._application = application
        self._trusted = trusted
        self._max_body_bytes = max_body_bytes

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = with_single_slashes(environ.get("PATH_INFO", ""))
        if is_within(parse_address(environ.get("REMOTE_ADDR", "")), self._trusted):
            self._see_through_proxy(environ)
        # Werkzeug would cut the body off and go on with what there is.
        if not environ.get("CONTENT_LENGTH"):
            environ["wsgi.input"] = BoundedBody(environ["wsgi.input"], self._max_body_bytes)
        return self._application(environ, start_response)

    def _see_through_proxy(self, environ: dict[str, Any]) -> None:
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        items = forwarded.split(",") if forwarded else []
        environ["REMOTE_ADDR"] = str(client_address(environ["REMOTE_ADDR"], items, self._trusted) or "")
        if environ.get("HTTP_X_FORWARDED_PROTO") in ("http", "https"):
            environ["wsgi.url_scheme"] = environ["HTTP_X_FORWARDED_PROTO"]
        if host := environ.get("HTTP_X_FORWARDED_HOST"):
            environ["HTTP_HOST"] = host


class Readable(Protocol):
    """A body as WSGI hands it over."""

    def read(self, size: int = ..., /) -> bytes: ...


class BoundedBody:
    """A body that ends with 413 when it has as many bytes as are too many."""

    def __init__(self, body: Readable, limit: int) -> None:
        self._body = body
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes. Raises RequestEntityTooLarge, BadRequest."""
        try:
            found = self._body.read(size)
        except MalformedBody as exc:
            raise BadRequest(f"the body is not chunked as it should be: {shortened(str(exc))}") from exc
        self._left -= len(found)
        if self._left <= 0:
            raise RequestEntityTooLarge
        return found


def with_single_slashes(path: str) -> str:
    """The path with each run of slashes as one. PURE."""
    return _SLASHES.sub("/", path)
