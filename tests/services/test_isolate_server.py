"""The isolate server under gunicorn, as clients of all ages see it."""

import base64
import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dist_test.errors import BlobNotFound, DigestMismatch, IsolateError, IsolateServerUnavailable
from dist_test.isolate.archive import Archiver
from dist_test.isolate.blob import LocalBlob
from dist_test.isolate.cache import BlobCache, CacheLimits
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.stat_cache import StatCache
from dist_test.local.ports import free_port

V1 = "/_ah/api/isolateservice/v1/"
GZIP = "default-gzip"
JSON = "application/json; charset=utf-8"
DEADLINE_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server and the directory of its blobs."""

    port: int
    process: subprocess.Popen[bytes]
    store: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path.removeprefix(self.url), body, headers or {})
            response = connection.getresponse()
            return Answer(status=response.status, headers=response.headers, body=response.read())
        finally:
            connection.close()

    def call(self, method: str, document: Any) -> Answer:
        """One v1 call, as the Python clients make it."""
        return self.request("POST", V1 + method, json.dumps(document), {"Content-Type": "application/json"})

    def lookup(self, *contents: bytes, namespace: str = GZIP) -> Any:
        items = [{"digest": digest_bytes(c), "size": len(c), "is_isolated": False} for c in contents]
        return self.call("preupload", {"items": items, "namespace": {"namespace": namespace}}).json

    def put(self, content: bytes) -> str:
        """Store a blob the short way, and return its digest."""
        for item in self.lookup(content).get("items", []):
            stored = base64.b64encode(zlib.compress(content)).decode()
            assert self.call("store_inline", {"upload_ticket": item["upload_ticket"], "content": stored}).status == 200
        return digest_bytes(content)

    def retrieve(self, digest: str, namespace: str = GZIP) -> Answer:
        return self.request("GET", f"/content-gs/retrieve/{namespace}/{digest}")


def start(state: Path) -> Server:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(state),
        "DIST_TEST_ISOLATE_SERVER_BIND": f"127.0.0.1:{port}",
        "DIST_TEST_ISOLATE_SERVER_STORE": f"disk:{state}/store",
    }
    program = Path(sys.executable).with_name("dist-test-isolate")
    with (state / "log").open("ab") as log:
        process = subprocess.Popen([program], env=environment, stderr=log, stdout=log)
    server = Server(port=port, process=process, store=state / "store")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not answers(server):
        assert process.poll() is None, (state / "log").read_text()
        assert time.monotonic() < deadline, (state / "log").read_text()
        time.sleep(0.02)
    return server


def answers(server: Server) -> bool:
    try:
        return server.request("GET", "/healthz").status == 200
    except OSError:
        return False


def stop(server: Server) -> None:
    server.process.terminate()
    server.process.wait(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = start(tmp_path_factory.mktemp("isolate"))
    yield server
    stop(server)


@pytest.fixture
def client(server: Server) -> Iterator[IsolateClient]:
    made = IsolateClient(server.url, sleep=lambda _: None)
    yield made
    made.close()


@pytest.fixture
def content(request: pytest.FixtureRequest) -> bytes:
    """Content that no other test uses."""
    name: str = request.node.name
    return name.encode() * 10


def chunked(server: Server, method: str, target: str, body: bytes, content_type: str) -> Answer:
    """A request as Go's client writes it: no length, chunked."""
    parts = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    head = (
        f"{method} {target.removeprefix(server.url)} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"User-Agent: Go-http-client/1.1\r\nTransfer-Encoding: chunked\r\nContent-Type: {content_type}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as connection:
        connection.sendall(head.encode() + chunks + b"0\r\n\r\n")
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        return Answer(status=response.status, headers=response.headers, body=response.read())


def test_a_go_client_uploads_with_chunked_bodies_and_an_old_slave_downloads(server: Server, content: bytes) -> None:
    items = [{"digest": digest_bytes(content), "is_isolated": False, "size": len(content)}]
    request = json.dumps({"items": items, "namespace": {"namespace": GZIP}}).encode()
    found = chunked(server, "POST", V1 + "preupload", request, "application/json; charset=utf-8")
    assert found.headers["Content-Type"] == JSON
    (item,) = found.json["items"]
    stored = zlib.compress(content, 7)
    body = json.dumps({"content": base64.b64encode(stored).decode(), "upload_ticket": item["upload_ticket"]}).encode()
    answer = chunked(server, "POST", V1 + "store_inline", body, "application/json; charset=utf-8")
    assert (answer.status, answer.json, answer.headers["Content-Type"]) == (200, {"ok": True}, JSON)
    got = server.retrieve(digest_bytes(content))
    assert (got.status, got.body, got.headers["Content-Type"]) == (200, stored, "application/octet-stream")
    assert got.headers["Content-Length"] == str(len(stored))
    assert server.lookup(content) == {}


def test_a_big_blob_goes_to_an_address_of_its_own_and_the_answer_has_its_md5(server: Server) -> None:
    size = 64 * 2**20 + 1
    digest = digest_bytes(bytes(size))
    request = {"items": [{"digest": digest, "size": str(size)}], "namespace": {"namespace": GZIP}}
    (item,) = server.call("preupload", request).json["items"]
    finalize = {"upload_ticket": item["upload_ticket"]}
    assert server.call("finalize_gs_upload", finalize).status == 400
    stored = zlib.compress(bytes(size), 1)
    answer = chunked(server, "PUT", item["gs_upload_url"], stored, "application/octet-stream")
    assert answer.status == 200
    assert answer.headers["x-goog-hash"] == f"md5={base64.b64encode(hashlib.md5(stored).digest()).decode()}"
    assert server.call("finalize_gs_upload", finalize).json == {"ok": True}
    assert server.retrieve(digest).body == stored


def test_behind_a_proxy_on_any_host_the_addresses_have_the_clients_scheme(server: Server, content: bytes) -> None:
    item = {"digest": digest_bytes(content), "size": len(content)}
    request = {"items": [item], "namespace": {"namespace": GZIP}, "inline_limit": 0}
    # Not 127.0.0.1, which gunicorn believes by itself.
    connection = http.client.HTTPConnection("127.0.0.1", server.port, DEADLINE_SECONDS, source_address=("127.0.0.2", 0))
    try:
        headers = {"Host": "dist-test.example", "X-Forwarded-Proto": "https"}
        connection.request("POST", V1 + "preupload", json.dumps(request), headers)
        (missing,) = json.loads(connection.getresponse().read())["items"]
    finally:
        connection.close()
    assert missing["gs_upload_url"].startswith("https://dist-test.example/content-gs/store/")


def test_each_index_of_a_digest_that_occurs_twice_is_answered(server: Server, content: bytes) -> None:
    found = server.lookup(content, b"other" + content, content)
    assert [int(item["index"]) for item in found["items"]] == [0, 1, 2]


def test_an_old_python_client_shakes_hands_looks_up_and_puts(server: Server, content: bytes) -> None:
    hello = {"client_app_version": "0.3.4", "fetcher": True, "protocol_version": "1.0", "pusher": True}
    shaken = server.request("POST", "/content-gs/handshake", json.dumps(hello)).json
    assert shaken.keys() >= {"access_token", "protocol_version", "server_app_version"}
    known = server.put(b"known" + content)
    wanted = [{"h": known, "s": len(content) + 5, "i": 0}, {"h": digest_bytes(content), "s": len(content), "i": 1}]
    path = f"/content-gs/pre-upload/{GZIP}?token={shaken['access_token']}"
    present, (upload_url, finalize_url) = server.request("POST", path, json.dumps(wanted)).json
    assert (present, finalize_url) == (None, None)
    stored = zlib.compress(content)
    assert server.request("PUT", upload_url, stored, {"Content-Type": "application/octet-stream"}).status == 200
    assert server.retrieve(digest_bytes(content)).body == stored
    assert server.request("PUT", upload_url, stored).status == 200


def test_a_wrong_token_is_refused(server: Server) -> None:
    assert server.request("POST", f"/content-gs/pre-upload/{GZIP}?token=x", "[]").status == 403


def test_v1_retrieve_answers_content_from_an_offset_or_an_address(server: Server, content: bytes) -> None:
    digest = server.put(content)
    request = {"digest": digest, "namespace": {"namespace": GZIP}}
    whole = base64.b64decode(server.call("retrieve", request).json["content"])
    assert zlib.decompress(whole) == content
    rest = base64.b64decode(server.call("retrieve", request | {"offset": "5"}).json["content"])
    assert rest == whole[5:]
    big = os.urandom(2**20 + 1)
    answer = server.call("retrieve", {"digest": server.put(big), "namespace": {"namespace": GZIP}}).json
    assert zlib.decompress(server.request("GET", answer["url"]).body) == big


@pytest.mark.parametrize("prefix", [V1, "/api/isolateservice/v1/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_server_details_are_given_by_both_methods_and_paths(server: Server, prefix: str, method: str) -> None:
    answer = server.request(method, f"{prefix}server_details", "{}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, JSON)
    assert isinstance(answer.json["server_version"], str)


def test_clients_that_ask_about_accounts_are_content(server: Server) -> None:
    assert "client_id" in server.request("GET", "/auth/api/v1/server/oauth_config").json
    assert server.request("GET", "/auth/api/v1/accounts/self").json["identity"].startswith("user:")


DIGEST = "a" * 40
NAMESPACE = {"namespace": GZIP}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param(V1 + "preupload", "{", id="not JSON"),
        pytest.param(V1 + "preupload", "[" * 100_000, id="nested too deep"),
        pytest.param(V1 + "preupload", "[]", id="a list"),
        pytest.param(V1 + "preupload", {"namespace": {"namespace": "a/b"}}, id="bad namespace"),
        pytest.param(V1 + "preupload", {"namespace": {"namespace": ".."}}, id="namespace of dots"),
        pytest.param(
            V1 + "preupload", {"items": [{"digest": DIGEST}], "namespace": {"namespace": "sha256-x"}}, id="another hash"
        ),
        pytest.param(V1 + "preupload", {"namespace": 1}, id="namespace as number"),
        pytest.param(V1 + "preupload", {"items": [{"digest": "A" * 40}], "namespace": NAMESPACE}, id="not hex"),
        pytest.param(V1 + "preupload", {"items": [{"digest": "a" * 39}], "namespace": NAMESPACE}, id="too short"),
        pytest.param(V1 + "preupload", {"items": [1], "namespace": NAMESPACE}, id="item as number"),
        pytest.param(
            V1 + "preupload", {"items": [{"digest": DIGEST, "size": -1}], "namespace": NAMESPACE}, id="size -1"
        ),
        pytest.param(V1 + "preupload", {"items": [{"digest": DIGEST}] * 1001, "namespace": NAMESPACE}, id="1001 items"),
        pytest.param(V1 + "store_inline", {"content": ""}, id="no ticket"),
        pytest.param(V1 + "store_inline", {"upload_ticket": "x", "content": ""}, id="bad ticket"),
        pytest.param(V1 + "finalize_gs_upload", {"upload_ticket": 1}, id="ticket as number"),
        pytest.param(V1 + "retrieve", {"namespace": NAMESPACE}, id="no digest"),
        pytest.param(V1 + "retrieve", {"digest": DIGEST}, id="no namespace"),
        pytest.param(V1 + "retrieve", {"digest": DIGEST, "namespace": NAMESPACE, "offset": -1}, id="offset -1"),
        pytest.param("/content-gs/handshake", {"protocol_version": "1.0"}, id="handshake without version"),
        pytest.param("/content-gs/pre-upload/a%2f..?token=x", [], id="namespace with slash"),
    ],
)
def test_bad_input_is_answered_400_in_json(server: Server, path: str, body: Any) -> None:
    answer = server.request("POST", path, body if isinstance(body, str) else json.dumps(body))
    assert answer.status == (404 if "%2f" in path else 400)
    assert answer.headers["Content-Type"] == JSON
    assert answer.json["error"]["code"] == answer.status


@pytest.mark.parametrize(
    "stored",
    [b"", b"content", zlib.compress(b"Content"), zlib.compress(b"content")[:-1], zlib.compress(b"\0" * 10**7)],
    ids=["empty", "not compressed", "other content", "cut short", "a bomb"],
)
def test_content_that_is_not_what_was_announced_is_answered_400_and_not_kept(server: Server, stored: bytes) -> None:
    (item,) = server.lookup(b"content")["items"]
    ticket = {"upload_ticket": item["upload_ticket"]}
    assert server.call("store_inline", ticket | {"content": base64.b64encode(stored).decode()}).status == 400
    assert server.lookup(b"content")["items"]
    assert server.retrieve(digest_bytes(b"content")).status == 404


def test_a_ticket_is_good_for_its_own_blob_and_way_only(server: Server, content: bytes) -> None:
    (item,) = server.lookup(content)["items"]
    ticket = item["upload_ticket"]
    other = base64.b64encode(zlib.compress(b"other")).decode()
    assert server.call("store_inline", {"upload_ticket": ticket, "content": other}).status == 400
    assert server.call("store_inline", {"upload_ticket": ticket + "x", "content": other}).status == 400
    assert (
        server.request("PUT", f"/content-gs/store/{GZIP}/{digest_bytes(content)}?ticket={ticket}", b"x").status == 400
    )


@pytest.mark.parametrize(
    "path", ["/content-gs/retrieve/default-gzip/abcd", f"/content-gs/retrieve/x/{DIGEST}", "/nothing"]
)
def test_what_is_not_there_is_answered_404_in_json(server: Server, path: str) -> None:
    answer = server.request("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (404, JSON)


def test_a_body_beyond_the_limit_is_answered_413(server: Server, content: bytes) -> None:
    assert server.request("POST", V1 + "preupload", b" " * (2**20 + 1)).status == 413
    assert chunked(server, "POST", V1 + "preupload", b" " * (2**20 + 1), "application/json").status == 413
    request = {"items": [{"digest": digest_bytes(content), "size": 10}], "inline_limit": 1, "namespace": NAMESPACE}
    (item,) = server.call("preupload", request).json["items"]
    assert chunked(server, "PUT", item["gs_upload_url"], bytes(200_000), "application/octet-stream").status in (
        400,
        413,
    )
    assert server.request("GET", "/healthz").status == 200


@pytest.mark.parametrize("size", [1000, 3 * 2**20])
def test_a_damaged_blob_is_never_served_as_whole_and_can_be_uploaded_again(server: Server, size: int) -> None:
    content = os.urandom(size)
    digest = server.put(content)
    path = next(server.store.glob(f"blobs/*/*/{digest}"))
    stored = bytearray(path.read_bytes())
    stored[size // 2] ^= 1
    path.write_bytes(stored)
    try:
        assert server.retrieve(digest).status == 404
    except http.client.IncompleteRead:
        assert size > 2**20
    assert server.retrieve(digest).status == 404
    assert server.put(content) == digest
    assert zlib.decompress(server.retrieve(digest).body) == content


def test_counts_are_those_of_all_workers(server: Server, content: bytes) -> None:
    def lookups() -> float:
        lines = server.request("GET", "/metrics").body.decode().splitlines()
        name = 'dist_test_isolate_requests_total{status="200",view="preupload"} '
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    before = lookups()
    for _ in range(20):
        server.lookup(content)
    assert lookups() == before + 20


def test_sigterm_ends_the_server_quickly_and_tickets_outlive_it(tmp_path: Path) -> None:
    server = start(tmp_path)
    (item,) = server.lookup(b"content")["items"]
    with socket.create_connection(("127.0.0.1", server.port)):
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_SECONDS) == 0
        assert time.monotonic() - began < 5
    server = start(tmp_path)
    stored = base64.b64encode(zlib.compress(b"content")).decode()
    assert server.call("store_inline", {"upload_ticket": item["upload_ticket"], "content": stored}).status == 200
    stop(server)


def test_a_bad_configuration_ends_the_program_with_one_message() -> None:
    program = Path(sys.executable).with_name("dist-test-isolate")
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "DIST_TEST_ISOLATE_SERVER_STORE": "nowhere"}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DIST_TEST_ISOLATE_SERVER_STORE" in done.stderr
    assert "Traceback" not in done.stderr


def blob(content: bytes) -> LocalBlob:
    return LocalBlob(digest=digest_bytes(content), size_bytes=len(content), content=content)


def test_our_client_uploads_what_is_missing_and_fetches_it(
    client: IsolateClient, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(2**21) + bytes(2**21))
    blobs = [
        blob(b""),
        blob(content),
        LocalBlob(digest=digest_bytes(path.read_bytes()), size_bytes=2**22, content=str(path)),
    ]
    steps: list[tuple[int, int, int, int]] = []
    uploaded = client.upload(blobs, lambda *step: steps.append(step))
    assert uploaded.misses >= 2
    total = 2**22 + len(content)
    assert steps[0] == (0, total, 0, 3)
    assert steps[-1] == (total, total, 3, 3)
    assert client.upload(blobs).misses == 0
    for item in blobs:
        assert client.fetch(item.digest, tmp_path / "out", size_bytes=item.size_bytes) == item.size_bytes
        assert (tmp_path / "out").read_bytes() == b"".join(item.pieces())


def test_our_client_says_what_is_not_there(client: IsolateClient, tmp_path: Path) -> None:
    with pytest.raises(BlobNotFound):
        client.fetch(DIGEST, tmp_path / "out")


def test_our_client_refuses_a_blob_of_another_size(client: IsolateClient, content: bytes, tmp_path: Path) -> None:
    client.upload([blob(content)])
    with pytest.raises(DigestMismatch):
        client.fetch(digest_bytes(content), tmp_path / "out", size_bytes=len(content) - 1)


@pytest.mark.parametrize("size", [100, 2**21])
def test_our_client_names_a_file_that_changed_since_it_was_hashed(
    client: IsolateClient, tmp_path: Path, size: int
) -> None:
    path = tmp_path / "changing"
    path.write_bytes(b"x" * size)
    digest = digest_bytes(os.urandom(8) * (size // 8))
    with pytest.raises(IsolateError, match="changing changed while"):
        client.upload([LocalBlob(digest=digest, size_bytes=size, content=str(path))])


def test_our_client_survives_a_server_that_is_late(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "server"
    state.mkdir()
    server = start(state)
    stop(server)
    started: list[Server] = []
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            started.append(start(state))
            late.url = started[-1].url

    late = IsolateClient(server.url, sleep=wait)
    assert late.upload([blob(content)]).misses == 1
    late.close()
    stop(started[0])
    assert pauses == [0.5, 2]


def test_our_client_gives_up_on_a_server_that_is_gone() -> None:
    pauses: list[float] = []
    client = IsolateClient(f"http://127.0.0.1:{free_port()}", sleep=pauses.append)
    with pytest.raises(IsolateServerUnavailable):
        client.contains([blob(b"x")])
    assert pauses == [0.5, 2]
    client.close()


def test_a_tree_goes_from_archive_to_cache(server: Server, client: IsolateClient, tmp_path: Path) -> None:
    for name in ("src/run.sh", "src/data/a", "src/data/b/c"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    root = tmp_path / "src"
    archive = Archiver(StatCache(None)).archive(root, [f"{root}/run.sh", f"{root}/data/"], command=["sh", "run.sh"])
    client.upload(archive.blobs)
    limits = CacheLimits(max_bytes=10**9, min_free_bytes=0, max_items=1000)
    cache = BlobCache(tmp_path / "cache", client, limits)
    with cache.checkout(archive.digest) as cached:
        contents = {f.path: cached.blob_path(f.digest).read_text() for f in cached.tree.files if f.digest}
    cache.close()
    assert contents == {"run.sh": "src/run.sh", "data/a": "src/data/a", "data/b/c": "src/data/b/c"}


def test_many_clients_at_a_time_are_served(server: Server) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(10):
                server.put(b"%d/%d" % (number, step % 3))
        except (OSError, AssertionError) as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(number % 4,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
