"""Blobs, whichever API they came by: forms, namespaces, parts, and what is refused (isolate.md 1 and 2)."""

import base64
import hashlib
import os
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from .served import GZIP, RAW, Served, digest_of, stored_form

MIB = 2**20
EMPTY_GZIP = zlib.compress(b"", 7)


def put_by(server: Served, way: str, content: bytes, namespace: str) -> None:
    stored = stored_form(content, namespace)
    if way == "inline":
        assert server.store_inline(server.ticket(content, namespace=namespace), stored).status == 200
    elif way == "stream":
        item = server.stream_item(content, namespace=namespace)
        assert server.request("PUT", item["gs_upload_url"], stored).status == 200
    else:
        ((upload_url, _),) = server.pre_upload([content], namespace=namespace)
        assert server.request("PUT", upload_url, stored).status == 200


def get_by_v1(server: Served, digest: str, namespace: str) -> bytes:
    answer = server.call("retrieve", {"digest": digest, "namespace": {"namespace": namespace}}).json
    if "url" in answer:
        return server.request("GET", answer["url"]).body
    return base64.b64decode(answer["content"])


@pytest.mark.parametrize("namespace", [GZIP, "x-deflate", RAW, "tmp.1_a-B"])
@pytest.mark.parametrize("way", ["inline", "stream", "2014"])
def test_what_came_by_one_api_is_there_in_both(each_server: Served, content: bytes, way: str, namespace: str) -> None:
    put_by(each_server, way, content, namespace)
    digest, stored = digest_of(content), stored_form(content, namespace)
    assert each_server.is_present(content, namespace=namespace)
    assert each_server.pre_upload([content], namespace=namespace) == [None]
    assert each_server.retrieve(digest, namespace=namespace).body == stored
    assert get_by_v1(each_server, digest, namespace) == stored


@pytest.mark.parametrize("level", range(10))
def test_every_level_of_zlib_is_taken_and_given_back_as_it_came(server: Served, content: bytes, level: int) -> None:
    stored = stored_form(content, level=level)
    server.put(content, stored=stored)
    assert server.retrieve(digest_of(content)).body == stored


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_prefix_of_the_namespace_picks_another_digest(each_server: Served, content: bytes, algorithm: str) -> None:
    namespace = f"{algorithm}-GCP-gzip"
    for way, one in (("inline", content), ("2014", b"old" + content)):
        put_by(each_server, way, one, namespace)
        digest = hashlib.new(algorithm, one).hexdigest()
        assert each_server.retrieve(digest, namespace=namespace).body == stored_form(one)
        assert get_by_v1(each_server, digest, namespace) == stored_form(one)
    asked = {"namespace": {"namespace": namespace, "digest_hash": f"sha-{algorithm[3:]}", "compression": "flate"}}
    assert each_server.call("preupload", asked).json == {}
    assert each_server.call("preupload", asked | {"items": [{"digest": "a" * 40}]}).status == 400


def test_namespaces_share_no_blobs(each_server: Served, content: bytes) -> None:
    each_server.put(content)
    assert not each_server.is_present(content, namespace="other-gzip")
    assert each_server.retrieve(digest_of(content), namespace="other-gzip").status == 404


@pytest.mark.parametrize("way", ["inline", "2014"])
@pytest.mark.parametrize("kind", ["gzip", "raw"])
def test_the_empty_file_is_a_blob_like_any_other(each_server: Served, way: str, kind: str) -> None:
    namespace = f"empty-{way}" + ("-gzip" if kind == "gzip" else "")
    assert not each_server.is_present(b"", namespace=namespace)
    put_by(each_server, way, b"", namespace)
    assert each_server.is_present(b"", namespace=namespace)
    stored = EMPTY_GZIP if kind == "gzip" else b""
    assert (len(stored), kind) in ((8, "gzip"), (0, "raw"))
    for lines in ((), ("Range: bytes=0-",), ("Range: bytes=-1",)) if kind == "raw" else ((),):
        answer = each_server.retrieve(digest_of(b""), *lines, namespace=namespace)
        assert (answer.status, answer.body, answer.header("Content-Length")) == (200, stored, str(len(stored)))
    assert get_by_v1(each_server, digest_of(b""), namespace) == stored


def test_nothing_is_ever_encoded_for_the_way(each_server: Served, content: bytes) -> None:
    for namespace in (GZIP, RAW):
        digest = each_server.put(content * 100, namespace=namespace)
        for method in ("GET", "HEAD"):
            lines = "Accept-Encoding: gzip, deflate, compress, br, zstd"
            answer = each_server.retrieve(digest, lines, namespace=namespace, method=method)
            assert answer.header("Content-Encoding") is None
            assert answer.header("Content-Length") == str(len(stored_form(content * 100, namespace)))


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_head_is_get_without_a_body(each_server: Served, size: int) -> None:
    digest = each_server.put(os.urandom(size), namespace=RAW)
    got, headed = (each_server.retrieve(digest, namespace=RAW, method=method) for method in ("GET", "HEAD"))
    names = ("content-type", "content-length", "content-disposition", "cache-control", "accept-ranges")
    assert [headed.header(name) for name in names] == [got.header(name) for name in names]
    assert (headed.status, headed.body, headed.header("Content-Length")) == (200, b"", str(size))


PARTS = {
    "bytes=0-": (0, None),
    "bytes=1-": (1, None),
    "bytes=5-9": (5, 10),
    "bytes=0-0": (0, 1),
    "bytes=-7": (-7, None),
    "bytes=999-": (999, None),
    "bytes=10-99999999999": (10, None),
    "bytes=-99999999999": (0, None),
}


@pytest.mark.parametrize("size", [1000, 2 * MIB + 5], ids=["small", "large"])
@pytest.mark.parametrize("header", PARTS)
def test_a_range_is_answered_206_with_its_place(each_server: Served, size: int, header: str) -> None:
    content = hashlib.shake_128(b"parts").digest(size)
    digest = each_server.put(content, namespace=RAW)
    start, stop = PARTS[header]
    expected = content[start:stop]
    first = content.index(expected) if len(expected) > 3 else start
    answer = each_server.retrieve(digest, f"Range: {header}", namespace=RAW)
    assert (answer.status, answer.body == expected) == (206, True)
    assert answer.header("Content-Range") == f"bytes {first}-{first + len(expected) - 1}/{size}"
    assert answer.header("Content-Length") == str(len(expected))
    assert answer.header("Content-Type") == "application/octet-stream"


@pytest.mark.parametrize(
    "header", ["bytes=1000-", "bytes=5-4", "bytes=-0", "bytes=x-", "bytes=-", "lines=0-", "bytes=0-1,5-6", "1-"]
)
def test_a_bad_range_is_answered_416_with_the_size(each_server: Served, header: str) -> None:
    digest = each_server.put(hashlib.shake_128(b"parts").digest(1000), namespace=RAW)
    answer = each_server.retrieve(digest, f"Range: {header}", namespace=RAW)
    assert (answer.status, answer.header("Content-Range")) == (416, "bytes */1000")


def test_a_range_is_of_the_stored_form(server: Served, content: bytes) -> None:
    digest = server.put(content)
    assert server.retrieve(digest, "Range: bytes=3-").body == stored_form(content)[3:]


BAD_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "not zlib": lambda content: content,
    "gzip": lambda content: b"\x1f\x8b" + stored_form(content),
    "raw deflate": lambda content: stored_form(content)[2:-4],
    "cut short": lambda content: stored_form(content)[:-1],
    "garbage at its end": lambda content: stored_form(content) + b"\0",
    "two streams": lambda content: stored_form(content) * 2,
    "a wrong checksum": lambda content: stored_form(content)[:-1] + b"!",
    "other content": lambda content: stored_form(content.upper()),
    "less content": lambda content: stored_form(content[:-1]),
    "a bomb": lambda _: zlib.compress(bytes(50 * MIB), 9),
}


@pytest.mark.parametrize("case", BAD_FORMS)
@pytest.mark.parametrize("way", ["inline", "stream"])
def test_a_form_that_is_not_the_blobs_is_answered_400(server: Served, content: bytes, case: str, way: str) -> None:
    stored = BAD_FORMS[case](content)
    if way == "inline":
        answer = server.store_inline(server.ticket(content), stored)
    else:
        answer = server.request("PUT", server.stream_item(content)["gs_upload_url"], stored)
    assert (answer.status, answer.json["error"]["code"]) == (400, 400)
    assert not server.is_present(content)
    server.put(content)
    assert server.retrieve(digest_of(content)).body == stored_form(content)


@pytest.mark.parametrize("way", ["inline", "2014"])
def test_eight_at_once_may_send_the_same_blob(each_server: Served, content: bytes, way: str) -> None:
    content = content * 1000
    barrier = threading.Barrier(8, timeout=60)

    def send(level: int) -> int:
        stored = stored_form(content, level=level)
        if way == "inline":
            ticket = each_server.ticket(content)
            barrier.wait()
            return each_server.store_inline(ticket, stored).status
        ((upload_url, _),) = each_server.pre_upload([content])
        barrier.wait()
        return each_server.request("PUT", upload_url, stored).status

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(1, 9))) == [200] * 8
    assert zlib.decompress(each_server.retrieve(digest_of(content)).body) == content
