"""The protocol of Go clients, of later Python clients, and of ours: JSON documents by POST."""

import base64
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from dist_test import __version__
from dist_test.errors import shown
from dist_test.isolate.digest import algorithm_of
from dist_test.isolate.server.content import retrieve_url, upload_url
from dist_test.isolate.server.tickets import Ticket
from dist_test.isolate.server.wire import (
    SMALL_BYTES,
    as_bytes,
    as_digest,
    as_items,
    as_object,
    as_size,
    given,
    json_answer,
    keep,
    read_object,
    read_small,
    state,
)
from dist_test.isolate.stored_form import check_served_namespace

INLINE_BYTES = 64 * 2**20  # larger blobs are sent as a stream of their own, never whole in memory
_MAX_INLINE_JSON_BYTES = INLINE_BYTES * 4 // 3 + 2**20  # base64, and what stands around it

v1 = Blueprint("v1", __name__)


@v1.route("/server_details", methods=["GET", "POST"])
def server_details() -> Response:
    return json_answer({"server_version": __version__})


@v1.post("/preupload")
def preupload() -> Response:
    document = read_object()
    namespace = _namespace(document)
    items = [
        Ticket(
            kind="inline",
            namespace=namespace,
            digest=as_digest(item.get("digest"), namespace),
            size_bytes=as_size(given(item, "size", 0), "size"),
        )
        for item in as_items(given(document, "items", []), "items")
    ]
    inline_limit = min(INLINE_BYTES, as_size(given(document, "inline_limit", INLINE_BYTES), "inline_limit"))
    present = state().store.contains(namespace, list({item.digest for item in items}))
    missing = [_missing(index, item, inline_limit) for index, item in enumerate(items) if item.digest not in present]
    # Endpoints leaves empty lists out, and so do the clients expect it.
    return json_answer({"items": missing} if missing else {})


@v1.post("/store_inline")
def store_inline() -> Response:
    request.max_content_length = _MAX_INLINE_JSON_BYTES
    document = read_object()
    ticket = state().tickets.redeem(document.get("upload_ticket"), "inline")
    stored = as_bytes(given(document, "content", ""), "content")
    document.clear()
    keep(ticket, iter((stored,)))
    return json_answer({"ok": True})


@v1.post("/finalize_gs_upload")
def finalize_gs_upload() -> Response:
    ticket = state().tickets.redeem(read_object().get("upload_ticket"), "stream")
    if not state().store.contains(ticket.namespace, [ticket.digest]):
        raise BadRequest(f"blob {ticket.digest} has not been uploaded")
    return json_answer({"ok": True})


@v1.post("/retrieve")
def retrieve() -> Response:
    document = read_object()
    if document.get("namespace") is None:
        raise BadRequest("namespace is missing")
    namespace = _namespace(document)
    digest = as_digest(document.get("digest"), namespace)
    offset = as_size(given(document, "offset", 0), "offset")
    stored = state().store.open(namespace, digest)
    if offset and offset >= stored.size_bytes:
        stored.stream.close()
        raise BadRequest(f"offset is {offset}; the blob has {stored.size_bytes} bytes")
    if stored.size_bytes > SMALL_BYTES:
        stored.stream.close()
        return json_answer({"url": retrieve_url(namespace, digest)})
    content = read_small(namespace, digest, stored)[offset:]
    state().metrics.sent_bytes.inc(len(content))
    return json_answer({"content": base64.b64encode(content).decode("ascii")})


def _namespace(document: dict[str, Any]) -> str:
    value = as_object(given(document, "namespace", {}), "namespace")
    namespace = check_served_namespace(given(value, "namespace", "default"))
    # Clients derive it from the namespace, as we do: where the two disagree, digests would be of the wrong kind.
    algorithm = algorithm_of(namespace)
    digest_hash = given(value, "digest_hash", "") or algorithm
    if str(digest_hash).lower().replace("-", "") != algorithm:
        raise BadRequest(
            f"digest_hash is {shown(digest_hash)}, but namespace {shown(namespace)} has digests of {algorithm};"
            " a namespace that starts with 'sha256-' or 'sha512-' has others"
        )
    return namespace


def _missing(index: int, ticket: Ticket, inline_limit: int) -> dict[str, Any]:
    if ticket.size_bytes <= inline_limit:
        return {"index": index, "upload_ticket": state().tickets.sign(ticket)}
    streamed = Ticket(kind="stream", namespace=ticket.namespace, digest=ticket.digest, size_bytes=ticket.size_bytes)
    return {"index": index, "upload_ticket": state().tickets.sign(streamed), "gs_upload_url": upload_url(streamed)}
