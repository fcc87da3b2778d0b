"""The v1 API, call by call (isolate.md 3)."""

import base64
import hashlib
import os
import time
import zlib
from typing import Any

import pytest
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

from .raw import JSON
from .served import GZIP, TOKEN_KEY, V1, V1_DIRECT, Served, digest_of, lookup, stored_form

NAMESPACE = {"namespace": GZIP}
DIGEST = "a" * 40
MIB = 2**20


@pytest.mark.parametrize("base", [V1, V1_DIRECT])
@pytest.mark.parametrize("body", [b"{}", b"", None], ids=["{}", "empty", "none"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_server_details_come_by_get_and_by_post(server: Served, base: str, method: str, body: bytes | None) -> None:
    answer = server.request(method, f"{base}server_details", body)
    assert answer.status == 200
    assert isinstance(answer.json["server_version"], str)


@pytest.mark.parametrize("base", [V1, V1_DIRECT])
def test_a_blob_goes_up_and_down_under_both_base_paths(each_server: Served, content: bytes, base: str) -> None:
    (item,) = each_server.post(f"{base}preupload", lookup([content])).json["items"]
    stored = base64.b64encode(stored_form(content)).decode()
    kept = each_server.post(f"{base}store_inline", {"upload_ticket": item["upload_ticket"], "content": stored})
    assert (kept.status, kept.json) == (200, {"ok": True})
    got = each_server.post(f"{base}retrieve", {"digest": digest_of(content), "namespace": NAMESPACE})
    assert base64.b64decode(got.json["content"]) == stored_form(content)


def test_every_success_has_exactly_the_content_type_that_go_takes(server: Served, content: bytes) -> None:
    big = os.urandom(MIB + 1)
    streamed = server.stream_item(big)
    answers = [
        server.call("server_details", {}),
        server.call("preupload", lookup([content])),
        server.call("preupload", {}),
        server.store_inline(server.ticket(content), stored_form(content)),
        server.request("PUT", streamed["gs_upload_url"], stored_form(big, level=0)),
        server.call("finalize_gs_upload", {"upload_ticket": streamed["upload_ticket"]}),
        server.call("retrieve", {"digest": digest_of(content), "namespace": NAMESPACE}),
        server.call("retrieve", {"digest": digest_of(big), "namespace": NAMESPACE}),
    ]
    assert [(answer.status, answer.header("Content-Type")) for answer in answers] == [(200, JSON)] * len(answers)


def test_a_lookup_without_anything_missing_is_answered_with_an_empty_object(server: Served, content: bytes) -> None:
    server.put(content)
    assert server.call("preupload", lookup([content, content])).body == b"{}"
    assert server.call("preupload", {"items": [], "namespace": NAMESPACE}).body == b"{}"
    assert server.call("preupload", {"namespace": NAMESPACE}).body == b"{}"


def test_only_missing_items_are_answered_each_under_its_index(server: Served, content: bytes) -> None:
    server.put(content)
    other = content + b"other"
    items = server.missing([content, other, b"more" + content, content, other])
    assert [int(item["index"]) for item in items] == [1, 2, 4]
    assert all(item["upload_ticket"] for item in items)


def test_each_ticket_of_a_digest_that_occurs_twice_is_good(server: Served, content: bytes) -> None:
    first, second = server.missing([content, content])
    for item in (first, second):
        assert server.store_inline(item["upload_ticket"], stored_form(content)).json == {"ok": True}


def test_numbers_may_be_texts_and_unknown_fields_and_nulls_are_passed_over(server: Served, content: bytes) -> None:
    item = {"digest": digest_of(content), "size": str(len(content)), "is_isolated": True, "colour": "red", "x": None}
    namespace = {"namespace": GZIP, "compression": "flate", "digest_hash": "sha-1", "kind": "isolate#resourcesItem"}
    (missing,) = server.call("preupload", {"items": [item], "namespace": namespace, "etag": 1}).json["items"]
    document = {"upload_ticket": missing["upload_ticket"], "more": [1]}
    stored = base64.b64encode(stored_form(content)).decode()
    assert server.call("store_inline", document | {"content": stored}).json == {"ok": True}
    for offset in ("0", None):
        asked = {"digest": digest_of(content), "namespace": namespace, "offset": offset, "more": {}}
        assert server.call("retrieve", asked).json["content"] == stored
    assert server.call("preupload", {"items": None, "namespace": None}).json == {}


def test_without_a_namespace_a_lookup_is_about_the_raw_one(server: Served, content: bytes) -> None:
    server.put(content, namespace="default")
    items = [{"digest": digest_of(content), "size": len(content)}]
    assert server.call("preupload", {"items": items}).json == {}
    assert server.call("preupload", {"items": items, "namespace": {}}).json == {}
    assert "items" in server.call("preupload", {"items": items, "namespace": NAMESPACE}).json


@pytest.mark.parametrize("digest_hash", ["sha-1", "SHA-1", "", None])
@pytest.mark.parametrize("compression", ["flate", "", None])
def test_the_namespace_object_of_python_clients_is_taken(
    server: Served, content: bytes, digest_hash: str | None, compression: str | None
) -> None:
    namespace = {"namespace": GZIP, "compression": compression, "digest_hash": digest_hash}
    assert len(server.call("preupload", lookup([content]) | {"namespace": namespace}).json["items"]) == 1


def test_a_digest_hash_that_is_not_the_namespaces_is_refused(server: Served) -> None:
    for name, digest_hash in ((GZIP, "sha-256"), ("sha256-GZIP", "sha-1"), (GZIP, "md5"), (GZIP, 1)):
        answer = server.call("preupload", {"namespace": {"namespace": name, "digest_hash": digest_hash}})
        assert (answer.status, "digest_hash" in answer.json["error"]["message"]) == (400, True)


def test_1000_items_are_answered_and_1001_refused(each_server: Served, content: bytes) -> None:
    contents = [content + b"%d" % number for number in range(1001)]
    assert len(each_server.missing(contents[:1000])) == 1000
    assert each_server.call("preupload", lookup(contents)).status == 400


BAD_LOOKUPS: dict[str, Any] = {
    "a namespace with a slash": {"namespace": {"namespace": "a/b"}},
    "a namespace with a space": {"namespace": {"namespace": "a b"}},
    "an empty namespace": {"namespace": {"namespace": ""}},
    "a namespace of dots": {"namespace": {"namespace": ".."}},
    "a namespace that no file system keeps": {"namespace": {"namespace": "x" * 300}},
    "a namespace that is a text": {"namespace": GZIP},
    "a digest in capitals": {"items": [{"digest": "A" * 40}]},
    "a digest with other letters": {"items": [{"digest": "g" * 40}]},
    "a short digest": {"items": [{"digest": "a" * 39}]},
    "a long digest": {"items": [{"digest": "a" * 64}]},
    "a digest with a line's end": {"items": [{"digest": "a" * 40 + "\n"}]},
    "no digest": {"items": [{"size": 1}]},
    "a negative size": {"items": [{"digest": DIGEST, "size": -1}]},
    "a size that is no number": {"items": [{"digest": DIGEST, "size": "1k"}]},
    "an item that is no object": {"items": [DIGEST]},
    "items that are no list": {"items": {}},
}


@pytest.mark.parametrize("case", BAD_LOOKUPS)
def test_a_bad_lookup_is_answered_400(server: Served, case: str) -> None:
    answer = server.call("preupload", {"namespace": NAMESPACE} | BAD_LOOKUPS[case])
    assert answer.status == 400
    assert (answer.json["error"]["code"], answer.json["error"]["message"] != "") == (400, True)


BAD_CALLS: dict[str, tuple[str, Any]] = {
    "store_inline without a ticket": ("store_inline", {"content": ""}),
    "store_inline with an empty ticket": ("store_inline", {"upload_ticket": "", "content": ""}),
    "store_inline with a forged ticket": ("store_inline", {"upload_ticket": "forged", "content": ""}),
    "finalize with a forged ticket": ("finalize_gs_upload", {"upload_ticket": "forged"}),
    "finalize without a ticket": ("finalize_gs_upload", {}),
    "retrieve without a digest": ("retrieve", {"namespace": NAMESPACE}),
    "retrieve without a namespace": ("retrieve", {"digest": DIGEST}),
    "retrieve with a short digest": ("retrieve", {"digest": "abcd", "namespace": NAMESPACE}),
    "retrieve with a bad namespace": ("retrieve", {"digest": DIGEST, "namespace": {"namespace": "?"}}),
    "a call with a list": ("preupload", []),
    "a call with a number": ("retrieve", 1),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_call_is_answered_400(server: Served, case: str) -> None:
    answer = server.call(*BAD_CALLS[case])
    assert (answer.status, answer.json["error"]["code"]) == (400, 400)


def test_finalize_without_a_body_is_answered_400(server: Served) -> None:
    answer = server.request("POST", V1 + "finalize_gs_upload", b"", "Content-Type: application/json")
    assert answer.status == 400


def test_retrieve_of_an_unknown_digest_is_answered_404(each_server: Served) -> None:
    assert each_server.call("retrieve", {"digest": DIGEST, "namespace": NAMESPACE}).status == 404


def test_retrieve_starts_where_the_offset_says(each_server: Served, content: bytes) -> None:
    asked = {"digest": each_server.put(content), "namespace": NAMESPACE}
    stored = stored_form(content)
    for offset in (1, str(len(stored) - 1)):
        answer = each_server.call("retrieve", asked | {"offset": offset})
        assert base64.b64decode(answer.json["content"]) == stored[int(offset) :]
    for offset in (len(stored), len(stored) + 1, -1, "x"):
        assert each_server.call("retrieve", asked | {"offset": offset}).status == 400


def test_retrieve_of_a_large_blob_gives_an_address_of_its_stored_form(each_server: Served) -> None:
    content = os.urandom(MIB + 1)
    answer = each_server.call("retrieve", {"digest": each_server.put(content), "namespace": NAMESPACE}).json
    assert answer.keys() == {"url"}
    got = each_server.request("GET", answer["url"])
    assert (got.status, zlib.decompress(got.body)) == (200, content)


def test_up_to_64_mib_a_blob_is_asked_for_inline_and_above_as_a_stream(server: Served) -> None:
    items = [{"digest": letter * 40, "size": size} for letter, size in (("b", 64 * MIB), ("c", 64 * MIB + 1))]
    inline, streamed = server.call("preupload", {"items": items, "namespace": NAMESPACE}).json["items"]
    assert "gs_upload_url" not in inline
    assert streamed["gs_upload_url"].startswith(f"{server.url}/content-gs/store/{GZIP}/{'c' * 40}?")


def test_64_mib_that_do_not_compress_fit_inline(server: Served) -> None:
    content = os.urandom(MIB) * 64
    assert server.put(content, stored=zlib.compress(content, 0)) == digest_of(content)
    assert server.is_present(content)


def test_a_put_is_answered_with_the_md5_of_what_came_on_a_line_of_its_own(each_server: Served, content: bytes) -> None:
    item = each_server.stream_item(content)
    stored = stored_form(content)
    lines = ("Content-Type: application/octet-stream", "Cache-Control: public, max-age=31536000")
    answer = each_server.request("PUT", item["gs_upload_url"], stored, *lines)
    md5 = base64.b64encode(hashlib.md5(stored, usedforsecurity=False).digest()).decode()
    assert answer.status == 200
    assert [value for name, value in answer.header_lines if name == "x-goog-hash"] == [f"md5={md5}"]


def test_finalize_is_refused_until_the_blob_is_there(each_server: Served, content: bytes) -> None:
    item = each_server.stream_item(content)
    finalize = {"upload_ticket": item["upload_ticket"]}
    assert each_server.call("finalize_gs_upload", finalize).status == 400
    assert each_server.request("PUT", item["gs_upload_url"], stored_form(content)).status == 200
    assert each_server.call("finalize_gs_upload", finalize).json == {"ok": True}
    assert each_server.call("finalize_gs_upload", finalize).json == {"ok": True}


def test_a_client_that_sends_a_stream_ticket_inline_is_told_why_not(server: Served, content: bytes) -> None:
    item = server.stream_item(content)
    answer = server.store_inline(item["upload_ticket"], stored_form(content))
    assert (answer.status, "a PUT to the address" in answer.json["error"]["message"]) == (400, False)
    assert "store_inline" in answer.json["error"]["message"]


def test_an_inline_ticket_is_not_good_for_a_put_or_for_finalize(server: Served, content: bytes) -> None:
    ticket = server.ticket(content)
    target = f"/content-gs/store/{GZIP}/{digest_of(content)}?ticket={ticket}"
    assert server.request("PUT", target, stored_form(content)).status == 400
    assert server.call("finalize_gs_upload", {"upload_ticket": ticket}).status == 400
    assert not server.is_present(content)


def test_a_ticket_is_bound_to_namespace_digest_and_size(server: Served, content: bytes) -> None:
    assert server.store_inline(server.ticket(content), stored_form(content + b"x")).status == 400
    assert server.store_inline(server.ticket(content, namespace="default"), stored_form(content)).status == 400
    short = lookup([content])
    short["items"][0]["size"] -= 1
    (item,) = server.call("preupload", short).json["items"]
    assert server.store_inline(item["upload_ticket"], stored_form(content)).status == 400
    target = server.stream_item(content)["gs_upload_url"]
    assert server.request("PUT", target.replace(GZIP, "other-gzip"), stored_form(content)).status == 400
    assert server.request("PUT", target.replace(digest_of(content), DIGEST), stored_form(content)).status == 400
    assert not server.is_present(content)


def signed_ago(seconds: int, content: bytes) -> str:
    """A ticket that the server's key signed so long ago."""

    class Earlier(TimestampSigner):
        def get_timestamp(self) -> int:
            return int(time.time()) - seconds

    signer = URLSafeTimedSerializer(TOKEN_KEY, salt="dist_test isolate", signer=Earlier)
    return str(signer.dumps(["inline", GZIP, digest_of(content), len(content)]))


def test_a_ticket_is_good_for_four_hours(server: Served, content: bytes) -> None:
    late = server.store_inline(signed_ago(4 * 3600 + 2, content), stored_form(content))
    assert (late.status, "look the blob up again" in late.json["error"]["message"]) == (400, True)
    assert server.store_inline(signed_ago(4 * 3600 - 60, content), stored_form(content)).status == 200


def test_a_ticket_with_a_changed_letter_is_refused(server: Served, content: bytes) -> None:
    ticket = server.ticket(content)
    for place in (0, len(ticket) // 2, len(ticket) - 2):
        changed = ticket[:place] + ("A" if ticket[place] != "A" else "B") + ticket[place + 1 :]
        assert server.store_inline(changed, stored_form(content)).status == 400


@pytest.mark.parametrize("text", ["?", "YQ", "YQ==\n", "Y Q==", 1, None], ids=repr)
def test_content_that_is_not_base64_with_padding_is_refused(server: Served, content: bytes, text: object) -> None:
    answer = server.call("store_inline", {"upload_ticket": server.ticket(content), "content": text})
    assert answer.status == 400


@pytest.mark.parametrize("method", ["preupload", "store_inline", "finalize_gs_upload", "retrieve"])
def test_a_call_by_another_method_is_answered_405(server: Served, method: str) -> None:
    answer = server.request("GET", V1 + method)
    assert (answer.status, answer.json["error"]["code"]) == (405, 405)
    assert "POST" in str(answer.header("Allow"))
