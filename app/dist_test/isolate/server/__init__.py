"""The isolate server: the v1 protocol and the older `/content-gs/` one, in front of one store of blobs.

Uploads come through v1 (Go clients, ours), downloads of old slaves through /content-gs/.
docs/reference/isolate-protocol.md has both, request by request.
"""

import logging
import re
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from flask import Flask, Response, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # gunicorn has no annotations
from werkzeug.exceptions import HTTPException

from dist_test.errors import BlobNotFound, IsolateError, ResultStoreUnavailable
from dist_test.isolate.server.content import content
from dist_test.isolate.server.service import service
from dist_test.isolate.server.tickets import Tickets
from dist_test.isolate.server.v1 import INLINE_BYTES, v1
from dist_test.isolate.server.wire import MAX_JSON_BYTES, State, attach, refusal
from dist_test.isolate.server_metrics import Metrics
from dist_test.isolate.store import BlobStore

logger = logging.getLogger(__name__)

_DRAINED_BYTES = INLINE_BYTES  # of a refused body; beyond that the connection breaks off
_CHUNK_BYTES = 2**17
_SLASHES = re.compile(r"/{2,}")


def create_app(store: BlobStore, *, token_key: str) -> Flask:
    """The server as a WSGI application. `token_key` signs upload tickets; all servers of one store share it.

    Runs under gunicorn, which decodes chunked bodies: Go clients send no others.
    """
    app = Flask("dist_test.isolate")
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    metrics = Metrics()
    attach(app, State(store=store, tickets=Tickets(token_key), metrics=metrics))
    app.register_blueprint(v1, url_prefix="/_ah/api/isolateservice/v1", name="v1")
    app.register_blueprint(v1, url_prefix="/api/isolateservice/v1", name="v1_direct")
    app.register_blueprint(content)
    app.register_blueprint(service)
    metrics.observe(app)
    app.after_request(_hear_out)
    _register_errors(app)
    # type: the way to add middleware that Flask's documentation gives
    app.wsgi_app = _with_single_slashes(app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app


def _register_errors(app: Flask) -> None:
    statuses: dict[type[Exception], int] = {
        IsolateError: 400,
        BlobNotFound: 404,
        ResultStoreUnavailable: 503,
    }
    for kind, status in statuses.items():
        app.register_error_handler(kind, _refuse_with(status))
    app.register_error_handler(HTTPException, _refuse)


def _refuse_with(status: int) -> Callable[[Exception], Response]:
    return lambda exc: refusal(status, str(exc))


def _refuse(exc: HTTPException) -> Response:
    answer = refusal(exc.code or 500, exc.description or exc.name)
    # Such as Allow, or the size of a blob of which other bytes were asked for.
    answer.headers.update({name: value for name, value in exc.get_headers() if name != "Content-Type"})
    return answer


def _hear_out(response: Response) -> Response:
    """Read what a refused client still has to say: it would take a reset for a fault and try again, not see why."""
    left = _DRAINED_BYTES if response.status_code >= 400 else 0
    body = request.environ["wsgi.input"]
    try:
        while left > 0 and (chunk := body.read(min(left, _CHUNK_BYTES))):
            left -= len(chunk)
    except (OSError, ParseException) as exc:
        logger.debug("the rest of a refused body did not come: %s", exc)
    return response


def _with_single_slashes(application: WSGIApplication) -> WSGIApplication:
    """Clients put a slash between a server's address and a path, also where the address ends with one.

    Flask would send them elsewhere, and the clients of 2014 take a redirect of a POST for success.
    """

    def called(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = _SLASHES.sub("/", environ.get("PATH_INFO", ""))
        return application(environ, start_response)

    return called
