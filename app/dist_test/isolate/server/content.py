"""The protocol of 2014, which old slaves download with; its PUT and GET also carry what is too large for JSON."""

import base64
import hashlib
from collections.abc import Callable, Iterator
from urllib.parse import unquote, urlencode

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, Forbidden

from dist_test import __version__
from dist_test.errors import BlobNotFound, shown
from dist_test.isolate.digest import algorithm_of, is_digest
from dist_test.isolate.server.ranges import cut, wanted
from dist_test.isolate.server.tickets import Ticket
from dist_test.isolate.server.wire import (
    SMALL_BYTES,
    as_digest,
    as_items,
    as_size,
    body_chunks,
    json_answer,
    keep,
    read_json,
    read_object,
    read_small,
    root_url,
    state,
)
from dist_test.isolate.store import StoredBlob, read_verified
from dist_test.isolate.stored_form import check_served_namespace

_PATH = "/content-gs"

content = Blueprint("content", __name__, url_prefix=_PATH)


def upload_url(ticket: Ticket) -> str:
    """Where the client may PUT the blob of this ticket, which is one for a stream."""
    query = urlencode({"ticket": state().tickets.sign(ticket)})
    return f"{root_url()}{_PATH}/store/{ticket.namespace}/{ticket.digest}?{query}"


def retrieve_url(namespace: str, digest: str) -> str:
    """Where the client gets a blob as a stream."""
    return f"{root_url()}{_PATH}/retrieve/{namespace}/{digest}"


@content.post("/handshake")
def handshake() -> Response:
    document = read_object()
    for key in ("protocol_version", "client_app_version"):
        if not isinstance(document.get(key), str):
            raise BadRequest(f"{key} is missing")
    token = state().tickets.new_token()
    return json_answer({"access_token": token, "protocol_version": "1.0", "server_app_version": __version__})


@content.post("/pre-upload/<namespace>")
def pre_upload(namespace: str) -> Response:
    namespace = check_served_namespace(namespace)
    # Some clients quote it twice; it has no % of its own.
    if not state().tickets.is_token(unquote(request.args.get("token", ""))):
        raise Forbidden("the token is not valid; make a handshake first")
    items = [
        Ticket(
            kind="stream",
            namespace=namespace,
            digest=as_digest(item.get("h"), namespace),
            size_bytes=as_size(item.get("s"), "s"),
        )
        for item in as_items(read_json(), "the body")
    ]
    present = state().store.contains(namespace, list({item.digest for item in items}))
    # Never an address to tell of the end: the PUT's own status does.
    return json_answer([None if item.digest in present else [upload_url(item), None] for item in items])


@content.put("/store/<namespace>/<digest>")
def store(namespace: str, digest: str) -> Response:
    ticket = state().tickets.redeem(request.args.get("ticket"), "stream")
    if (ticket.namespace, ticket.digest) != (namespace, digest):
        raise BadRequest("the upload ticket is for another blob")
    # What zlib adds to content that does not shrink is far below that, however often a client flushes.
    request.max_content_length = ticket.size_bytes + ticket.size_bytes // 10 + 2**16
    md5 = hashlib.md5(usedforsecurity=False)
    keep(ticket, _seen(body_chunks(), md5.update))
    answer = json_answer({"entry": {}})
    # Python clients insist on this header, of Google's storage, and Go compares it as a whole.
    answer.headers["x-goog-hash"] = f"md5={base64.b64encode(md5.digest()).decode('ascii')}"
    return answer


@content.get("/retrieve/<namespace>/<digest>")
def retrieve_stored(namespace: str, digest: str) -> Response:
    namespace = check_served_namespace(namespace)
    if not is_digest(digest, algorithm_of(namespace)):
        raise BlobNotFound(f"there is no blob {shown(digest)}: digests of {namespace} look different")
    stored = state().store.open(namespace, digest)
    if request.method == "HEAD":
        # Not left to Flask, which would never read the stream to its end, nor close it.
        stored.stream.close()
        answer = Response()
        answer.headers["Content-Length"] = str(stored.size_bytes)
    else:
        answer = _stored_form(namespace, digest, stored)
    answer.headers["Content-Type"] = "application/octet-stream"
    answer.headers["Content-Disposition"] = f'attachment; filename="{digest}"'
    answer.headers["Cache-Control"] = "public, max-age=43200"
    answer.headers["Accept-Ranges"] = "bytes"
    return answer


def _stored_form(namespace: str, digest: str, stored: StoredBlob) -> Response:
    span = _span(stored)
    if stored.size_bytes <= SMALL_BYTES:
        answer = Response(read_small(namespace, digest, stored)[span.start : span.stop])
    else:
        # From here on the status is sent: a damaged blob is cut short, and the client sees Content-Length not met.
        answer = Response(cut(read_verified(state().store, namespace, digest, stored), span))
        answer.call_on_close(stored.stream.close)
    answer.headers["Content-Length"] = str(len(span))
    if "Range" in request.headers and span:
        answer.status_code = 206
        answer.headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{stored.size_bytes}"
    state().metrics.sent_bytes.inc(len(span))
    return answer


def _span(stored: StoredBlob) -> range:
    header = request.headers.get("Range")
    # Of an empty blob there is no part to give, and 416 would keep clients from an empty file.
    if header is None or stored.size_bytes == 0:
        return range(stored.size_bytes)
    try:
        return wanted(header, stored.size_bytes)
    except BaseException:
        stored.stream.close()
        raise


def _seen(chunks: Iterator[bytes], see: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        see(chunk)
        yield chunk
