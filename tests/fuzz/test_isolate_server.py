"""Requests to the isolate server, of both protocols: whatever is sent, it answers, and says why it refuses."""

import base64
import hashlib
import json
import zlib
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import strategies as st

from dist_test.isolate.server import create_app
from dist_test.isolate.server.tickets import Ticket, Tickets
from dist_test.isolate.store import DiskStore

from .conftest import Fuzz
from .mutations import edited_json
from .requests_on_wire import Answer, Wire, requests
from .target import MAX_MESSAGE_CHARACTERS, Target, shape

TOKEN_KEY = "the key of the fuzzer's tests"
CONTENT = b"what a blob may hold" * 10
DIGEST = hashlib.sha1(CONTENT, usedforsecurity=False).hexdigest()
STORED = zlib.compress(CONTENT)
NAMESPACE = {"namespace": "default-gzip", "digest_hash": "SHA-1"}
DOCUMENTS = (
    {"protocol_version": "1.0", "client_app_version": "0.2"},
    [{"h": DIGEST, "s": len(CONTENT), "i": 0}, {"h": "b" * 40, "s": 1}],
    {"items": [{"digest": DIGEST, "size": str(len(CONTENT)), "is_isolated": False}], "namespace": NAMESPACE},
    {"items": [{"digest": "b" * 40, "size": 1}], "namespace": {"namespace": "sha256-x"}, "inline_limit": 0},
    {"upload_ticket": "@INLINE@", "content": base64.b64encode(STORED).decode()},
    {"upload_ticket": "@STREAM@"},
    {"digest": DIGEST, "namespace": NAMESPACE, "offset": "3"},
)
NAMES = ("token", "ticket", "x")


def kind_of(answer: Answer) -> str:
    """What the answer says: every refusal has the form of Google's Endpoints."""
    assert answer.status < 500, answer.body[:2000]
    message = ""
    if answer.status >= 400 and answer.body:
        message = json.loads(answer.body)["error"]["message"]
        assert message
        assert len(message) <= MAX_MESSAGE_CHARACTERS
    return f"{answer.status} {shape(message)}"


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    """A server with one blob."""
    store = DiskStore(tmp_path)
    store.put("default-gzip", DIGEST, len(CONTENT), iter((STORED,)))
    app = create_app(store, token_key=TOKEN_KEY)
    app.testing = True
    return app


def test_an_isolate_server_answers_every_request(fuzz: Fuzz, app: Flask) -> None:
    wire, tickets = Wire(app), Tickets(TOKEN_KEY)

    def ticket(kind: str) -> bytes:
        return tickets.sign(
            Ticket(kind=kind, namespace="default-gzip", digest=DIGEST, size_bytes=len(CONTENT))
        ).encode()

    def read(data: bytes) -> str:
        """`@…@` in it stand for what the server would have signed."""
        signed = {
            b"@INLINE@": ticket("inline"),
            b"@STREAM@": ticket("stream"),
            b"@TOKEN@": tickets.new_token().encode(),
        }
        for name, value in (*signed.items(), (b"@DIGEST@", DIGEST.encode())):
            data = data.replace(name, value)
        return kind_of(wire.send(data))

    plain = {rule.rule for rule in app.url_map.iter_rules()}
    known = {
        *(f"/content-gs/{name}/default-gzip/@DIGEST@" for name in ("retrieve", "store")),
        *(
            "/content-gs/pre-upload/default-gzip?token=@TOKEN@",
            "/content-gs/store/default-gzip/@DIGEST@?ticket=@STREAM@",
        ),
    }
    bodies = st.one_of(edited_json(DOCUMENTS), st.just(STORED), st.just(CONTENT), st.binary(max_size=50))
    inputs = requests(sorted(plain | known), NAMES, bodies)
    fuzz(Target(name="isolate-server", read=read, inputs=inputs))
