"""What both protocols have in common: JSON answers, JSON bodies, and what stands in them."""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from flask import Flask, Response, current_app, request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # gunicorn has no annotations
from werkzeug.exceptions import BadRequest, ClientDisconnected

from dist_test.errors import BlobNotFound, DigestMismatch, shortened, shown
from dist_test.isolate.digest import algorithm_of, hex_digits, is_digest
from dist_test.isolate.server.tickets import Ticket, Tickets
from dist_test.isolate.server_metrics import Metrics
from dist_test.isolate.store import BlobStore, StoredBlob, read_verified

MAX_JSON_BYTES = 2**20  # a lookup of 1000 blobs is a quarter of that
SMALL_BYTES = 2**20  # such a blob is read whole before the status is sent
_MAX_LOOKUP = 1000  # isolate.md 3
_CHUNK_BYTES = 2**17
_JSON = "application/json; charset=utf-8"  # Go clients take no other spelling
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_STATE = "dist_test_isolate"


@dataclass(frozen=True, kw_only=True)
class State:
    """What the views of one application use."""

    store: BlobStore
    tickets: Tickets
    metrics: Metrics


def attach(app: Flask, state: State) -> None:
    """Make it the state of an application."""
    app.extensions[_STATE] = state


def state() -> State:
    """The state of the current application."""
    return cast(State, current_app.extensions[_STATE])


def json_answer(document: object, status: int = 200) -> Response:
    """An answer with exactly the content type that all clients take."""
    return Response(json.dumps(document, separators=(",", ":")), status, content_type=_JSON)


def refusal(status: int, message: str) -> Response:
    """An error in the form of Google's Endpoints."""
    return json_answer({"error": {"code": status, "message": message, "errors": [{"message": message}]}}, status)


def body_chunks() -> Iterator[bytes]:
    """The body as it arrives, chunked or not.

    Raises RequestEntityTooLarge beyond request.max_content_length, and BadRequest when it does not come whole.
    """
    while chunk := _read_chunk():
        yield chunk


def read_json() -> Any:
    """The body, whatever its Content-Type. Raises BadRequest when it is not JSON."""
    # Not request.get_data(): of a chunked body that is too large it gives the beginning, without an error.
    body = bytearray()
    for chunk in body_chunks():
        body += chunk
    try:
        text = body.decode()
        body.clear()  # of an inline upload, this and the text are 85 MiB each
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise BadRequest(f"the body is not JSON: {exc}") from exc


def read_object() -> dict[str, Any]:
    """The body as a JSON object. Raises BadRequest when it is something else."""
    return as_object(read_json(), "the body")


def given(document: dict[str, Any], key: str, default: Any) -> Any:
    """What stands under a key; null counts as nothing, as in the original."""
    value = document.get(key)
    return default if value is None else value


def as_object(value: object, what: str) -> dict[str, Any]:
    """The value as a JSON object. Raises BadRequest."""
    if not isinstance(value, dict):
        raise BadRequest(f"{what} must be a JSON object")
    return value


def as_items(value: object, what: str) -> list[dict[str, Any]]:
    """The value as a list of objects, of which a lookup has 1000 at most. Raises BadRequest."""
    if not isinstance(value, list):
        raise BadRequest(f"{what} must be a list")
    if len(value) > _MAX_LOOKUP:
        raise BadRequest(f"{what} has {len(value)} items; at most {_MAX_LOOKUP} are allowed")
    return [as_object(item, "an item") for item in value]


def as_digest(value: object, namespace: str) -> str:
    """The value as a digest of this namespace. Raises BadRequest."""
    algorithm = algorithm_of(namespace)
    if not isinstance(value, str) or not is_digest(value, algorithm):
        raise BadRequest(f"digest is {shown(value)}; it must be {hex_digits(algorithm)} lower-case hex digits")
    return value


def as_size(value: object, what: str) -> int:
    """The value as a number of bytes. Raises BadRequest."""
    # Endpoints clients may write 64-bit numbers as texts.
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value
    if type(number) is not int or not 0 <= number < 2**63:
        raise BadRequest(f"{what} is {shown(value)}; it must be a number of bytes")
    return number


def as_bytes(value: object, what: str) -> bytes:
    """What base64 text stands for. Raises BadRequest."""
    if not isinstance(value, str):
        raise BadRequest(f"{what} must be a text in base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadRequest(f"{what} is not base64: {exc}") from exc


def keep(ticket: Ticket, chunks: Iterator[bytes]) -> None:
    """Put the stored form in the store. Raises DigestMismatch when it is not what the ticket is for."""
    state().store.put(ticket.namespace, ticket.digest, ticket.size_bytes, _counted(chunks))


def read_small(namespace: str, digest: str, stored: StoredBlob) -> bytes:
    """A small blob's stored form. A damaged one is dropped, and is as good as none: raises BlobNotFound."""
    try:
        return b"".join(read_verified(state().store, namespace, digest, stored))
    except DigestMismatch as exc:
        raise BlobNotFound(f"blob {digest} was damaged and has been dropped; upload it again") from exc


def root_url() -> str:
    """The address under which this client reaches us, without a slash at its end. Raises BadRequest."""
    # Not request.host_url: it knows no underscores, which names inside a cluster may have.
    host = request.environ.get("HTTP_HOST") or "{SERVER_NAME}:{SERVER_PORT}".format_map(request.environ)
    if not _HOST.fullmatch(host):
        raise BadRequest(f"Host is {shown(host)}; it must be a name or an address, and a port if need be")
    return f"{request.scheme}://{host}"


def _read_chunk() -> bytes:
    try:
        return request.stream.read(_CHUNK_BYTES)
    except ParseException as exc:
        raise BadRequest(f"the body is not chunked as it should be: {shortened(str(exc))}") from exc
    except OSError as exc:
        raise ClientDisconnected from exc


def _counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        state().metrics.received_bytes.inc(len(chunk))
        yield chunk
