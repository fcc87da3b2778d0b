"""The isolate server: the v1 protocol and the older `/content-gs/` one, in front of one store of blobs.

Uploads come through v1 (Go clients, ours), downloads of old slaves through /content-gs/. Go clients send every body
chunked, and take JSON answers only with exactly the content type set below.
"""

import base64
import binascii
import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, current_app, request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException

from dist_test.errors import BlobNotFound, DigestMismatch, IsolateError, ResultStoreUnavailable
from dist_test.isolate.digest import is_digest
from dist_test.isolate.server_metrics import Metrics
from dist_test.isolate.store import BlobStore, read_verified
from dist_test.isolate.stored_form import check_namespace

logger = logging.getLogger(__name__)

INLINE_BYTES = 64 * 2**20  # larger blobs are sent as a stream of their own, never whole in memory
_INLINE_ANSWER_BYTES = 2**20  # larger ones are fetched by a link of ours
_MAX_JSON_BYTES = 2**20  # a lookup of 1000 blobs is a tenth of that
_MAX_INLINE_JSON_BYTES = INLINE_BYTES * 4 // 3 + 2**20  # base64, and what stands around it
_MAX_LOOKUP = 1000  # isolate.md 3
_TICKET_SECONDS = 4 * 3600  # as in the original
_CHUNK_BYTES = 2**17
_JSON = "application/json; charset=utf-8"
_STATE = "dist_test_isolate"


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """Leave to upload one blob, signed and handed to the client. `kind`: "inline", or "stream" for a PUT."""

    kind: str
    namespace: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class _State:
    """What the views of one application use."""

    store: BlobStore
    signer: URLSafeTimedSerializer
    metrics: Metrics


v1 = Blueprint("v1", __name__)
content = Blueprint("content", __name__, url_prefix="/content-gs")
service = Blueprint("service", __name__)


def create_app(store: BlobStore, *, token_key: str) -> Flask:
    """The server as a WSGI application. `token_key` signs upload tickets; all servers of one store share it.

    Runs under a WSGI server that decodes chunked bodies, such as gunicorn.
    """
    app = Flask("dist_test.isolate")
    app.config["MAX_CONTENT_LENGTH"] = _MAX_JSON_BYTES
    metrics = Metrics()
    app.extensions[_STATE] = _State(
        store=store, signer=URLSafeTimedSerializer(token_key, salt="dist_test isolate"), metrics=metrics
    )
    app.register_blueprint(v1, url_prefix="/_ah/api/isolateservice/v1", name="v1")
    app.register_blueprint(v1, url_prefix="/api/isolateservice/v1", name="v1_direct")
    app.register_blueprint(content)
    app.register_blueprint(service)
    metrics.observe(app)
    _register_errors(app)
    return app


@v1.route("/server_details", methods=["GET", "POST"])
def server_details() -> Response:
    from dist_test import __version__

    return _json({"server_version": __version__})


@v1.post("/preupload")
def preupload() -> Response:
    document = _read_object()
    namespace = _namespace(document)
    items = [_lookup(item) for item in _list(document.get("items", []), "items")]
    inline_limit = min(INLINE_BYTES, _size(document.get("inline_limit", INLINE_BYTES), "inline_limit"))
    present = _state().store.contains(namespace, list({digest for digest, _ in items}))
    missing = [
        _missing(index, namespace, digest, size_bytes, is_inline=size_bytes <= inline_limit)
        for index, (digest, size_bytes) in enumerate(items)
        if digest not in present
    ]
    # Endpoints leaves empty lists out, and so do the clients expect it.
    return _json({"items": missing} if missing else {})


@v1.post("/store_inline")
def store_inline() -> Response:
    request.max_content_length = _MAX_INLINE_JSON_BYTES
    document = _read_object()
    ticket = _redeem(document.get("upload_ticket"), "inline")
    stored = _base64(document.get("content", ""))
    del document
    _store(ticket, iter((stored,)))
    return _json({"ok": True})


@v1.post("/finalize_gs_upload")
def finalize_gs_upload() -> Response:
    ticket = _redeem(_read_object().get("upload_ticket"), "stream")
    if not _state().store.contains(ticket.namespace, [ticket.digest]):
        raise BadRequest(f"blob {ticket.digest} has not been uploaded")
    return _json({"ok": True})


@v1.post("/retrieve")
def retrieve() -> Response:
    document = _read_object()
    if "namespace" not in document:
        raise BadRequest("namespace is missing")
    namespace = _namespace(document)
    digest = _digest(document.get("digest"))
    offset = _size(document.get("offset") or 0, "offset")
    stored = _state().store.open(namespace, digest)
    if offset > stored.size_bytes or (offset and offset == stored.size_bytes):
        stored.stream.close()
        raise BadRequest(f"offset is {offset}; the blob has {stored.size_bytes} bytes")
    if stored.size_bytes > _INLINE_ANSWER_BYTES:
        stored.stream.close()
        return _json({"url": f"{_root_url()}/content-gs/retrieve/{namespace}/{digest}"})
    whole = _read_whole(namespace, digest)
    return _json({"content": base64.b64encode(whole[offset:]).decode("ascii")})


@content.post("/handshake")
def handshake() -> Response:
    from dist_test import __version__

    document = _read_object()
    for key in ("protocol_version", "client_app_version"):
        if not isinstance(document.get(key), str):
            raise BadRequest(f"{key} is missing")
    token = _state().signer.dumps(["handshake"])
    return _json({"access_token": token, "protocol_version": "1.0", "server_app_version": __version__})


@content.post("/pre-upload/<namespace>")
def pre_upload(namespace: str) -> Response:
    namespace = check_namespace(namespace)
    _check_token(request.args.get("token", ""))
    items = [_old_lookup(item) for item in _list(_read_json(), "the body")]
    present = _state().store.contains(namespace, list({digest for digest, _ in items}))
    return _json([None if d in present else [_upload_url("stream", namespace, d, size), None] for d, size in items])


@content.put("/store/<namespace>/<digest>")
def store(namespace: str, digest: str) -> Response:
    ticket = _redeem(request.args.get("ticket"), "stream")
    if (ticket.namespace, ticket.digest) != (namespace, digest):
        raise BadRequest("the upload ticket is for another blob")
    # What zlib adds to content that does not shrink is far below that, however often a client flushes.
    request.max_content_length = ticket.size_bytes + ticket.size_bytes // 10 + 2**16
    md5 = hashlib.md5(usedforsecurity=False)
    _store(ticket, _seen_chunks(md5.update))
    answer = _json({"entry": {}})
    # Python clients insist on this header, of Google's storage, and Go compares it as a whole.
    answer.headers["x-goog-hash"] = f"md5={base64.b64encode(md5.digest()).decode('ascii')}"
    return answer


@content.get("/retrieve/<namespace>/<digest>")
def retrieve_stored(namespace: str, digest: str) -> Response:
    namespace = check_namespace(namespace)
    if not is_digest(digest):
        raise BlobNotFound(f"there is no blob {digest!r}: a digest has 40 lower-case hex digits")
    stored = _state().store.open(namespace, digest)
    if stored.size_bytes <= _INLINE_ANSWER_BYTES:
        stored.stream.close()
        answer = Response(_read_whole(namespace, digest))
    else:
        # From here on the status is sent: a damaged blob is cut short, and the client sees Content-Length not met.
        answer = Response(read_verified(_state().store, namespace, digest, stored))
        answer.headers["Content-Length"] = str(stored.size_bytes)
        _state().metrics.sent_bytes.inc(stored.size_bytes)
    answer.headers["Content-Type"] = "application/octet-stream"
    answer.headers["Content-Disposition"] = f'attachment; filename="{digest}"'
    answer.headers["Cache-Control"] = "public, max-age=43200"
    return answer


@service.get("/auth/api/v1/server/oauth_config")
def oauth_config() -> Response:
    return _json({"client_id": None, "client_not_so_secret": None, "primary_url": None})


@service.get("/auth/api/v1/accounts/self")
def account() -> Response:
    # Python clients that were not told to do without accounts refuse to work as "anonymous".
    return _json({"identity": "user:anyone@dist_test"})


@service.get("/healthz")
def healthz() -> Response:
    try:
        _state().store.check()
    except (OSError, ResultStoreUnavailable) as exc:
        logger.warning("the store cannot be used: %s", exc)
        return _json({"status": "unavailable", "error": str(exc)}, 503)
    return _json({"status": "ok"})


@service.get("/metrics")
def metrics() -> Response:
    text, content_type = _state().metrics.render()
    return Response(text, content_type=content_type)


def _state() -> _State:
    state: _State = current_app.extensions[_STATE]
    return state


def _json(document: object, status: int = 200) -> Response:
    return Response(json.dumps(document, separators=(",", ":")), status, content_type=_JSON)


def _error(status: int, message: str) -> Response:
    return _json({"error": {"code": status, "message": message, "errors": [{"message": message}]}}, status)


def _register_errors(app: Flask) -> None:
    statuses: dict[type[Exception], int] = {
        IsolateError: 400,
        BlobNotFound: 404,
        ResultStoreUnavailable: 503,
    }
    for kind, status in statuses.items():
        app.register_error_handler(kind, _answer_with(status))
    app.register_error_handler(HTTPException, lambda exc: _error(exc.code or 500, exc.description or exc.name))


def _answer_with(status: int) -> Callable[[Exception], Response]:
    return lambda exc: _error(status, str(exc))


def _store(ticket: Ticket, chunks: Iterator[bytes]) -> None:
    _state().store.put(ticket.namespace, ticket.digest, ticket.size_bytes, _counted(chunks))


def _counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        _state().metrics.received_bytes.inc(len(chunk))
        yield chunk


def _read_whole(namespace: str, digest: str) -> bytes:
    """A small blob's stored form. A damaged one is dropped and is as good as none."""
    store = _state().store
    try:
        whole = b"".join(read_verified(store, namespace, digest, store.open(namespace, digest)))
    except DigestMismatch as exc:
        raise BlobNotFound(f"blob {digest} was damaged and has been dropped; upload it again") from exc
    _state().metrics.sent_bytes.inc(len(whole))
    return whole


def _chunks() -> Iterator[bytes]:
    while chunk := request.stream.read(_CHUNK_BYTES):
        yield chunk


def _seen_chunks(see: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in _chunks():
        see(chunk)
        yield chunk


def _missing(index: int, namespace: str, digest: str, size_bytes: int, *, is_inline: bool) -> dict[str, Any]:
    kind = "inline" if is_inline else "stream"
    ticket = Ticket(kind=kind, namespace=namespace, digest=digest, size_bytes=size_bytes)
    item: dict[str, Any] = {"index": index, "upload_ticket": _sign(ticket)}
    if not is_inline:
        item["gs_upload_url"] = _upload_url(kind, namespace, digest, size_bytes)
    return item


def _upload_url(kind: str, namespace: str, digest: str, size_bytes: int) -> str:
    ticket = Ticket(kind=kind, namespace=namespace, digest=digest, size_bytes=size_bytes)
    return f"{_root_url()}/content-gs/store/{namespace}/{digest}?{urlencode({'ticket': _sign(ticket)})}"


def _root_url() -> str:
    return request.host_url.rstrip("/")


def _sign(ticket: Ticket) -> str:
    return _state().signer.dumps(list(asdict(ticket).values()))


def _redeem(signed: object, kind: str) -> Ticket:
    if not isinstance(signed, str) or not signed:
        raise BadRequest("upload_ticket is missing")
    try:
        values = _state().signer.loads(signed, max_age=_TICKET_SECONDS)
    except BadSignature as exc:
        raise BadRequest(f"the upload ticket is not valid: {exc}; look the blob up again") from exc
    if len(values) != 4 or values[0] != kind:
        raise BadRequest("the upload ticket is for another kind of upload")
    return Ticket(kind=kind, namespace=values[1], digest=values[2], size_bytes=values[3])


def _check_token(token: str) -> None:
    try:
        is_ours = _state().signer.loads(token, max_age=_TICKET_SECONDS) == ["handshake"]
    except BadSignature:
        is_ours = False
    if not is_ours:
        raise Forbidden("the token is not valid; make a handshake first")


def _read_json() -> Any:
    # Not request.get_data(): of a chunked body that is too large it gives the beginning, without an error.
    body = b"".join(_chunks())
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise BadRequest(f"the body is not JSON: {exc}") from exc


def _read_object() -> dict[str, Any]:
    document = _read_json()
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{what} must be a list")
    if len(value) > _MAX_LOOKUP:
        raise BadRequest(f"{what} has {len(value)} items; at most {_MAX_LOOKUP} are allowed")
    return value


def _namespace(document: dict[str, Any]) -> str:
    value = document.get("namespace", {})
    if not isinstance(value, dict):
        raise BadRequest("namespace must be a JSON object")
    return check_namespace(value.get("namespace", "default"))


def _lookup(item: object) -> tuple[str, int]:
    if not isinstance(item, dict):
        raise BadRequest("an item must be a JSON object")
    return _digest(item.get("digest")), _size(item.get("size", 0), "size")


def _old_lookup(item: object) -> tuple[str, int]:
    if not isinstance(item, dict):
        raise BadRequest("an item must be a JSON object")
    return _digest(item.get("h")), _size(item.get("s"), "s")


def _digest(value: object) -> str:
    if not isinstance(value, str) or not is_digest(value):
        raise BadRequest(f"digest is {value!r:.100}; it must be 40 lower-case hex digits")
    return value


def _size(value: object, what: str) -> int:
    # Endpoints clients may write 64-bit numbers as texts.
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value
    if type(number) is not int or not 0 <= number < 2**63:
        raise BadRequest(f"{what} is {value!r:.100}; it must be a number of bytes")
    return number


def _base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise BadRequest("content must be a text in base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadRequest(f"content is not base64: {exc}") from exc
