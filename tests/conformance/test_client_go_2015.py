"""The Go client of 2015: how it archives a batch, request by request (isolate.md 3, 5 and 9). It never downloads."""

import base64
import hashlib
import http.client
import json
import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .served import Served
from .test_client_python_2014 import Python2014

CALLS = "/_ah/api/isolateservice/v1/"
NAMESPACE = {"namespace": "default-gzip"}
JSON_TYPE = "application/json; charset=utf-8"
LOOKUPS_AT_ONCE, UPLOADS_AT_ONCE = 64, 8
LOOKUP_BATCH = 50
TRIES, PAUSE_SECONDS = 10, 0.1


class Go2015:
    """One run of the client."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close the connections, of which every goroutine has one here."""
        for connection in self._connections:
            connection.close()

    def archive(self, contents: Sequence[bytes]) -> int:
        """Upload what is missing; how many items were answered as missing."""
        digests = [hashlib.sha1(content, usedforsecurity=False).hexdigest() for content in contents]
        starts = range(0, len(contents), LOOKUP_BATCH)
        with ThreadPoolExecutor(LOOKUPS_AT_ONCE) as lookups, ThreadPoolExecutor(UPLOADS_AT_ONCE) as uploads:

            def look(start: int) -> list[tuple[bytes, dict[str, Any]]]:
                batch = range(start, min(start + LOOKUP_BATCH, len(contents)))
                found = self._lookup([(digests[place], len(contents[place])) for place in batch])
                return [(contents[start + int(item["index"])], item) for item in found]

            missing = [pair for pairs in lookups.map(look, starts) for pair in pairs]
            list(uploads.map(lambda pair: self._push(*pair), missing))
        return len(missing)

    def _lookup(self, batch: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
        # is_isolated is false even for documents.
        items = [{"digest": digest, "is_isolated": False, "size": size} for digest, size in batch]
        answer = self._call("preupload", {"items": items, "namespace": NAMESPACE})
        found: list[dict[str, Any]] = answer.get("items", [])
        return found

    def _push(self, content: bytes, item: dict[str, Any]) -> None:
        ticket = item["upload_ticket"]
        if item.get("gs_upload_url"):
            self._put(item["gs_upload_url"], compressed(content))
            self._call("finalize_gs_upload", {"upload_ticket": ticket})
        else:
            stored = base64.b64encode(b"".join(compressed(content))).decode()
            self._call("store_inline", {"upload_ticket": ticket, "content": stored})

    def _put(self, url: str, pieces: Iterable[bytes]) -> None:
        """Stream it; the client does not look at the status."""
        path = "/" + url.split("/", 3)[3]
        self._request("PUT", path, pieces, "application/octet-stream")

    def _call(self, method: str, document: Any) -> dict[str, Any]:
        """One call. Fails at once for what the client takes for an error of its own, and after its tries."""
        body = json.dumps(document).encode() + b"\n"
        for _ in range(TRIES):
            status, content_type, answer = self._request("POST", CALLS + method, [body], JSON_TYPE)
            if status in (408, 429) or status >= 500:
                time.sleep(PAUSE_SECONDS)  # the client's own back-off
                continue
            assert status == 200, answer
            assert (content_type or "").lower() == JSON_TYPE
            document = json.loads(answer)
            assert isinstance(document, dict)
            return document
        raise ConnectionError(f"{method} failed {TRIES} times: {answer!r}")

    def _request(
        self, method: str, path: str, pieces: Iterable[bytes], content_type: str
    ) -> tuple[int, str | None, bytes]:
        connection = self._connection()
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in (
            ("User-Agent", "Go-http-client/1.1"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Type", content_type),
            ("Accept-Encoding", "gzip"),
        ):
            connection.putheader(name, value)
        connection.endheaders(filter(None, pieces), encode_chunked=True)
        answer = connection.getresponse()
        assert answer.getheader("Content-Encoding") is None
        return answer.status, answer.getheader("Content-Type"), answer.read()

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            self._connections.append(self._local.connection)
        connection: http.client.HTTPConnection = self._local.connection
        return connection


def compressed(content: bytes) -> Iterator[bytes]:
    """As its writer hands it on: in small pieces."""
    compressor = zlib.compressobj(7)
    for start in range(0, len(content), 32768):
        yield compressor.compress(content[start : start + 32768])
    yield compressor.flush()


def digest_of(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def entry(content: bytes) -> dict[str, Any]:
    return {"h": digest_of(content), "m": 420, "s": len(content)}


def packaged(name: str, count: int) -> tuple[list[bytes], bytes]:
    """What this client archives for a test with a directory: files, a document for the directory, and the root."""
    files = {f"lib/f{number}": f"{name} {number}\n".encode() * (number % 90) for number in range(count)}
    directory = {"algo": "sha-1", "files": {path: entry(content) for path, content in files.items()}, "version": "1.4"}
    included = json.dumps(directory).encode() + b"\n"
    script = f"#!/bin/sh\necho {name}\n".encode()
    root = {
        "algo": "sha-1",
        "command": ["./run.sh"],
        "files": {"run.sh": entry(script)},
        "includes": [digest_of(included)],
        "version": "1.4",
    }
    isolated = json.dumps(root).encode() + b"\n"
    return [*files.values(), script, included, isolated], isolated


def archive(server: Served, contents: Sequence[bytes]) -> int:
    """One run of the client."""
    with closing(Go2015(server.port)) as client:
        return client.archive(contents)


@pytest.mark.parametrize("count", [700])
def test_a_go_client_archives_a_batch_and_a_slave_of_2014_downloads_it(
    each_server: Served, tmp_path: Path, count: int
) -> None:
    contents, isolated = packaged(f"go {each_server.url}", count)
    archive(each_server, [b""])
    # Its empty files are there already, each under an index of its own.
    assert archive(each_server, contents) == len([content for content in contents if content])
    assert archive(each_server, contents) == 0
    with closing(Python2014(each_server.url)) as slave:
        document = slave.download(digest_of(isolated), tmp_path)
    assert document["command"] == ["./run.sh"]
    fetched = [path.read_bytes() for path in (tmp_path / "lib").iterdir()]
    assert sorted(fetched) == sorted(contents[:count])


def test_64_lookups_of_a_go_client_are_answered_at_once(server: Served) -> None:
    contents = [b"lookup %d" % number for number in range(64 * LOOKUP_BATCH)]
    barrier = threading.Barrier(64, timeout=60)

    def look(client: Go2015, batch: Sequence[bytes]) -> int:
        barrier.wait()
        return len(client._lookup([(digest_of(content), len(content)) for content in batch]))

    with closing(Go2015(server.port)) as client, ThreadPoolExecutor(64) as pool:
        batches = [contents[start : start + LOOKUP_BATCH] for start in range(0, len(contents), LOOKUP_BATCH)]
        assert list(pool.map(lambda batch: look(client, batch), batches)) == [LOOKUP_BATCH] * 64


def test_a_go_client_sends_large_blobs_as_streams_and_asks_whether_they_came(server: Served) -> None:
    contents = [bytes(64 * 2**20 + number) + os.urandom(8) for number in (1, 2)]
    assert archive(server, contents) == 2
    assert archive(server, contents) == 0


def test_a_go_client_sends_megabytes_inline(each_server: Served) -> None:
    content = os.urandom(4 * 2**20)
    assert archive(each_server, [content, content]) == 2
    with closing(Python2014(each_server.url)) as slave:
        assert slave.fetch(digest_of(content)) == content


def test_a_go_client_fails_at_once_when_it_is_refused(server: Served) -> None:
    with closing(Go2015(server.port)) as client, pytest.raises(AssertionError, match="digest"):
        client._lookup([("x", 1)])
