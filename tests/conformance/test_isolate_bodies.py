"""Bodies on the wire: chunked and not, in pieces, one after the other, also after errors (isolate.md 0 and 3)."""

import base64
import json

import pytest

from .raw import Connection, chunked, chunked_head, exchange, head
from .served import GZIP, V1, Served, digest_of, lookup, stored_form

OCTETS = "application/octet-stream"


def lookup_body(content: bytes) -> bytes:
    return json.dumps(lookup([content])).encode()


def path_of(address: str) -> str:
    return "/" + address.split("/", 3)[3]


@pytest.mark.parametrize("sizes", [(1,), (1, 2, 3, 5, 7, 11), (16,), (4096, 1), (10**6,)], ids=str)
def test_a_json_body_may_come_in_chunks_of_any_size(server: Served, content: bytes, sizes: tuple[int, ...]) -> None:
    answer = exchange(server.port, chunked_head("POST", V1 + "preupload") + chunked(lookup_body(content), sizes))
    assert answer.status == 200
    assert [int(item["index"]) for item in answer.json["items"]] == [0]


@pytest.mark.parametrize("sizes", [(1, 2, 3), (1000,), (65537, 1)], ids=str)
def test_a_put_may_come_in_chunks_of_any_size(each_server: Served, content: bytes, sizes: tuple[int, ...]) -> None:
    content *= 100
    target = path_of(each_server.stream_item(content)["gs_upload_url"])
    stored = stored_form(content, level=0)
    answer = exchange(each_server.port, chunked_head("PUT", target, OCTETS) + chunked(stored, sizes))
    assert answer.status == 200
    assert each_server.retrieve(digest_of(content)).body == stored


def test_a_store_inline_may_come_chunked(server: Served, content: bytes) -> None:
    stored = base64.b64encode(stored_form(content)).decode()
    body = json.dumps({"upload_ticket": server.ticket(content), "content": stored}).encode()
    answer = exchange(server.port, chunked_head("POST", V1 + "store_inline") + chunked(body, (7, 100)))
    assert (answer.status, answer.json) == (200, {"ok": True})
    assert server.is_present(content)


def test_requests_of_the_older_protocol_may_come_chunked(server: Served, content: bytes) -> None:
    greeting = json.dumps({"client_app_version": "0", "protocol_version": "1.0"}).encode()
    shaken = exchange(server.port, chunked_head("POST", "/content-gs/handshake") + chunked(greeting))
    body = json.dumps([{"h": digest_of(content), "s": len(content), "i": 0}]).encode()
    target = f"/content-gs/pre-upload/{GZIP}?token={shaken.json['access_token']}"
    ((upload_url, finalize_url),) = exchange(server.port, chunked_head("POST", target) + chunked(body)).json
    assert (path_of(upload_url)[:18], finalize_url) == ("/content-gs/store/", None)


def test_chunk_extensions_and_trailers_are_passed_over(server: Served, content: bytes) -> None:
    body = chunked(lookup_body(content), (50,), extension=';name=value;other="quoted;"', trailers=["X-Checksum: none"])
    with Connection(server.port) as connection:
        for _ in range(2):
            connection.send(chunked_head("POST", V1 + "preupload") + body)
            assert len(connection.answer().json["items"]) == 1


def test_a_chunk_size_may_be_in_capitals_with_leading_zeros(server: Served, content: bytes) -> None:
    body = lookup_body(content)
    request = chunked_head("POST", V1 + "preupload") + b"000%X\r\n%s\r\n000\r\n\r\n" % (len(body), body)
    assert len(exchange(server.port, request).json["items"]) == 1


@pytest.mark.parametrize("packet_bytes", [1, 13])
def test_a_request_may_be_split_anywhere(server: Served, content: bytes, packet_bytes: int) -> None:
    whole = chunked_head("POST", V1 + "preupload") + chunked(lookup_body(content), (20, 3))
    packets = [whole[start : start + packet_bytes] for start in range(0, len(whole), packet_bytes)]
    assert len(exchange(server.port, *packets).json["items"]) == 1


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_who_expects_100_continue_is_told_to_go_on(server: Served, content: bytes, is_chunked: bool) -> None:
    body = lookup_body(content)
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(body)}"
    with Connection(server.port) as connection:
        connection.send(head("POST", V1 + "preupload", framing, "Expect: 100-continue"))
        assert connection.answer().status == 100
        connection.send(chunked(body) if is_chunked else body)
        assert len(connection.answer().json["items"]) == 1


def test_one_connection_serves_request_after_request_of_every_kind(server: Served, content: bytes) -> None:
    item = server.stream_item(content)
    body = lookup_body(content)
    with Connection(server.port) as connection:
        connection.send(chunked_head("PUT", path_of(item["gs_upload_url"]), OCTETS) + chunked(stored_form(content)))
        assert connection.answer().status == 200
        connection.send(chunked_head("POST", V1 + "preupload") + chunked(body))
        assert connection.answer().json == {}
        connection.send(head("POST", V1 + "preupload", f"Content-Length: {len(body)}") + body)
        assert connection.answer().json == {}
        connection.send(head("HEAD", f"/content-gs/retrieve/{GZIP}/{digest_of(content)}"))
        assert connection.answer(to_head=True).status == 200
        connection.send(head("GET", f"/content-gs/retrieve/{GZIP}/{digest_of(content)}"))
        assert connection.answer().body == stored_form(content)
        connection.send(chunked_head("POST", V1 + "server_details") + chunked(b"{}"))
        assert connection.answer().json["server_version"]


def test_requests_sent_in_advance_are_answered_in_order(server: Served, content: bytes) -> None:
    contents = [content + b"%d" % number for number in range(10)]
    requests = [chunked_head("POST", V1 + "preupload") + chunked(lookup_body(one), (33,)) for one in contents]
    server.put(contents[3])
    with Connection(server.port) as connection:
        connection.send(b"".join(requests))
        answers = [connection.answer().json for _ in requests]
    assert [number for number, answer in enumerate(answers) if answer == {}] == [3]


REFUSED = {
    "bad JSON": (chunked_head("POST", V1 + "preupload"), b"{" * 5000, 400),
    "bad ticket": (chunked_head("PUT", f"/content-gs/store/{GZIP}/{'a' * 40}?ticket=x", OCTETS), b"x" * 200_000, 400),
    "unknown path": (chunked_head("POST", "/nowhere"), b"x" * 200_000, 404),
    "wrong method": (chunked_head("PUT", V1 + "preupload"), b"x" * 200_000, 405),
    "wrong token": (chunked_head("POST", f"/content-gs/pre-upload/{GZIP}?token=x"), b"[]" * 100_000, 403),
    "too large": (chunked_head("POST", V1 + "preupload"), b" " * (2**20 + 100_000), 413),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_body_is_heard_out_and_the_connection_goes_on(server: Served, content: bytes, case: str) -> None:
    start, body, status = REFUSED[case]
    with Connection(server.port) as connection:
        connection.send(start + chunked(body, (8000,)))
        answer = connection.answer()
        assert (answer.status, answer.json["error"]["code"]) == (status, status)
        connection.send(chunked_head("POST", V1 + "preupload") + chunked(lookup_body(content)))
        assert len(connection.answer().json["items"]) == 1


def test_requests_sent_in_advance_are_answered_after_an_error_too(server: Served, content: bytes) -> None:
    start, body, status = REFUSED["bad ticket"]
    after = chunked_head("POST", V1 + "preupload") + chunked(lookup_body(content))
    with Connection(server.port) as connection:
        connection.send(start + chunked(body, (8000,)) + after + after)
        assert connection.answer().status == status
        assert [len(connection.answer().json["items"]) for _ in range(2)] == [1, 1]


def test_a_refused_put_with_a_length_is_answered_not_reset(server: Served) -> None:
    body = bytes(8 * 2**20)
    start = head("PUT", f"/content-gs/store/{GZIP}/{'a' * 40}?ticket=x", f"Content-Length: {len(body)}")
    with Connection(server.port) as connection:
        connection.send(start + body)
        assert connection.answer().status == 400
        connection.send(head("GET", "/healthz"))
        assert connection.answer().status == 200


@pytest.mark.parametrize(
    "body",
    [b"x\r\n{}\r\n0\r\n\r\n", b"2\r\n{}0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n"],
    ids=["no number", "no end", "less"],
)
def test_malformed_chunks_are_answered_400_and_end_the_connection(server: Served, body: bytes) -> None:
    with Connection(server.port) as connection:
        connection.send(chunked_head("POST", V1 + "preupload") + body)
        assert connection.answer().status == 400
        assert connection.is_ended()


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
def test_an_upload_that_breaks_off_is_not_kept(each_server: Served, content: bytes, is_chunked: bool) -> None:
    target = path_of(each_server.stream_item(content, namespace="default")["gs_upload_url"])
    with Connection(each_server.port) as connection:
        if is_chunked:
            connection.send(chunked_head("PUT", target, OCTETS) + chunked(content)[:-5])
        else:
            connection.send(head("PUT", target, f"Content-Length: {len(content)}") + content[:-1])
        connection.finish()
        assert connection.answer().status == 400
    assert not each_server.is_present(content, namespace="default")


def test_the_servers_log_has_no_traceback_for_what_clients_do_wrong(server: Served, content: bytes) -> None:
    target = path_of(server.stream_item(content)["gs_upload_url"])
    with Connection(server.port) as connection:
        connection.send(chunked_head("PUT", target, OCTETS) + b"ff\r\nshort")
        connection.finish()
        assert connection.answer().status == 400
    assert exchange(server.port, chunked_head("POST", V1 + "preupload") + b"x\r\n").status == 400
    assert "Traceback" not in server.log.read_text()


def test_a_content_type_of_the_request_does_not_matter(server: Served, content: bytes) -> None:
    body = lookup_body(content)
    for line in ("Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "X-None: none"):
        assert len(server.request("POST", V1 + "preupload", body, line).json["items"]) == 1
