"""The API of 2014, request by request (isolate.md 2)."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from .raw import JSON
from .served import GZIP, Served, digest_of, stored_form

GREETING = {"client_app_version": "0.3.4", "fetcher": True, "protocol_version": "1.0", "pusher": True}
TYPED = "Content-Type: application/json; charset=UTF-8"
ENCODINGS = "Accept-Encoding: gzip, deflate, compress"


def percent_encoded(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


def test_a_handshake_gives_a_token_and_both_versions(server: Served) -> None:
    answer = server.request("POST", "/content-gs/handshake", json.dumps(GREETING).encode(), TYPED, ENCODINGS)
    assert (answer.status, answer.header("Content-Type")) == (200, JSON)
    assert answer.json["access_token"]
    assert isinstance(answer.json["protocol_version"], str)
    assert isinstance(answer.json["server_app_version"], str)
    assert not answer.json.get("error")


@pytest.mark.parametrize("key", ["client_app_version", "protocol_version"])
def test_a_handshake_without_a_version_is_answered_400(server: Served, key: str) -> None:
    greeting = {name: value for name, value in GREETING.items() if name != key}
    assert server.post("/content-gs/handshake", greeting).status == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"{"], ids=["empty", "a list", "broken"])
def test_a_handshake_that_is_no_object_is_answered_400(server: Served, body: bytes) -> None:
    assert server.request("POST", "/content-gs/handshake", body).status == 400


def test_a_token_may_be_percent_encoded_once_twice_or_not_at_all(server: Served, content: bytes) -> None:
    token = server.handshake()
    assert re.fullmatch(r"[A-Za-z0-9._-]+", token), "a token that needs quoting"
    items = [{"h": digest_of(content), "s": len(content), "i": 0}]
    written = [token, quote(token), quote(quote(token)), percent_encoded(token), quote(percent_encoded(token))]
    for text in written:
        assert server.post(f"/content-gs/pre-upload/{GZIP}?token={text}", items).status == 200, text


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=tok%2Ben%2F%3D%3D"])
def test_a_lookup_without_a_good_token_is_answered_403(server: Served, query: str) -> None:
    assert server.post(f"/content-gs/pre-upload/{GZIP}{query}", []).status == 403


def test_an_upload_ticket_is_no_token(server: Served, content: bytes) -> None:
    assert server.post(f"/content-gs/pre-upload/{GZIP}?token={server.ticket(content)}", []).status == 403


def test_a_lookup_is_answered_in_order_with_null_or_an_address(each_server: Served, content: bytes) -> None:
    each_server.put(content)
    answers = each_server.pre_upload([b"x" + content, content, b"y" + content, content])
    assert [answer is None for answer in answers] == [False, True, False, True]
    for upload_url, finalize_url in (answer for answer in answers if answer):
        assert upload_url.startswith(f"{each_server.url}/content-gs/store/{GZIP}/")
        assert finalize_url is None


def test_a_lookup_of_nothing_is_answered_with_an_empty_list(server: Served) -> None:
    assert server.pre_upload([]) == []


def test_addresses_come_without_an_end_to_tell_of_whatever_the_size_and_kind(server: Served) -> None:
    items = [
        {"h": letter * 40, "s": size, "i": i} for letter, size, i in (("0", 0, 1), ("1", 500, 1), ("2", 10**10, 0))
    ]
    answers = server.post(f"/content-gs/pre-upload/{GZIP}?token={server.handshake()}", items).json
    assert [finalize_url for _, finalize_url in answers] == [None] * 3


BAD_LOOKUPS: dict[str, Any] = {
    "an object": {},
    "a number": 1,
    "items that are no objects": [DIGEST := "a" * 40],
    "no digest": [{"s": 1, "i": 0}],
    "no size": [{"h": DIGEST, "i": 0}],
    "a short digest": [{"h": "abcd", "s": 1, "i": 0}],
    "a digest in capitals": [{"h": "A" * 40, "s": 1, "i": 0}],
    "a negative size": [{"h": DIGEST, "s": -1, "i": 0}],
    "1001 items": [{"h": DIGEST, "s": 1, "i": 0}] * 1001,
}


@pytest.mark.parametrize("case", BAD_LOOKUPS)
def test_a_bad_lookup_is_answered_400(server: Served, case: str) -> None:
    answer = server.post(f"/content-gs/pre-upload/{GZIP}?token={server.handshake()}", BAD_LOOKUPS[case])
    assert (answer.status, answer.json["error"]["code"]) == (400, 400)


def test_a_lookup_in_a_bad_namespace_is_answered_400(server: Served) -> None:
    assert server.post(f"/content-gs/pre-upload/a%20b?token={server.handshake()}", []).status == 400


def test_a_put_is_answered_200_and_again_when_it_is_repeated(each_server: Served, content: bytes) -> None:
    ((upload_url, _),) = each_server.pre_upload([content])
    for level in (7, 6, 0):
        stored = stored_form(content, level=level)
        answer = each_server.request("PUT", upload_url, stored, "Content-Type: application/octet-stream", ENCODINGS)
        assert (answer.status, answer.json) == (200, {"entry": {}})
        assert each_server.retrieve(digest_of(content)).body == stored
    assert each_server.pre_upload([content]) == [None]


def test_a_put_that_is_not_what_was_announced_is_answered_400_and_not_kept(each_server: Served, content: bytes) -> None:
    ((upload_url, _),) = each_server.pre_upload([content])
    stored = stored_form(content)
    wrong = [b"", content, stored[:-1], stored + b"x", stored_form(content + b"x"), stored_form(content[:-1])]
    corrupted = stored[:20] + bytes([stored[20] ^ 255]) + stored[21:]
    for body in (*wrong, corrupted):
        assert each_server.request("PUT", upload_url, body).status == 400
    assert each_server.pre_upload([content]) != [None]
    assert each_server.retrieve(digest_of(content)).status == 404


def test_a_put_without_a_good_ticket_is_answered_400(server: Served, content: bytes) -> None:
    target = f"/content-gs/store/{GZIP}/{digest_of(content)}"
    for query in ("", "?ticket=", "?ticket=x", f"?ticket={server.handshake()}"):
        assert server.request("PUT", target + query, stored_form(content)).status == 400
    assert not server.is_present(content)


def test_a_download_needs_neither_token_nor_handshake(each_server: Served, content: bytes) -> None:
    answer = each_server.retrieve(each_server.put(content), ENCODINGS, "User-Agent: python-requests/2.0.0")
    assert (answer.status, answer.body) == (200, stored_form(content))
    assert answer.header("Content-Type") == "application/octet-stream"
    assert answer.header("Content-Length") == str(len(answer.body))
    assert answer.header("Content-Disposition") == f'attachment; filename="{digest_of(content)}"'
    assert answer.header("Cache-Control") == "public, max-age=43200"


@pytest.mark.parametrize("digest", ["a" * 40, "abcd", "a" * 64, "A" * 40, "g" * 40])
def test_a_download_of_what_is_not_there_is_answered_404(each_server: Served, digest: str) -> None:
    assert each_server.retrieve(digest).status == 404
    assert each_server.retrieve(digest, method="HEAD").status == 404


@pytest.mark.parametrize("namespace", ["default", "default-gzip", "default-deflate", "never_used-gzip"])
def test_a_namespace_that_nobody_used_has_no_blobs(each_server: Served, namespace: str) -> None:
    assert each_server.retrieve("b" * 40, namespace=namespace).status == 404
