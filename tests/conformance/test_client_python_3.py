"""Python clients of 2020 and 2021: how they archive and fetch, request by request (isolate.md 3)."""

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from .served import Served

BASE = "/_ah/api/isolateservice/v1/"
HASHES = {"sha256-": ("sha-256", "sha256"), "sha512-": ("sha-512", "sha512"), "": ("sha-1", "sha1")}
IO_THREADS = 16


class Python3:
    """One process of the client."""

    def __init__(self, url: str, namespace: str = "default-gzip") -> None:
        self._url = url.rstrip("/")
        self._is_compressed = namespace.endswith(("-gzip", "-deflate"))
        name, self._algorithm = next(names for prefix, names in HASHES.items() if namespace.startswith(prefix))
        compression = "flate" if self._is_compressed else ""
        self._namespace = {"compression": compression, "digest_hash": name, "namespace": namespace}
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "isolateserver.py/0.9.0"

    def archive(self, contents: Sequence[bytes], *, is_isolated: bool = False) -> int:
        """Upload what is missing; how many were."""
        items = [{"digest": self.digest(c), "is_isolated": is_isolated, "size": len(c)} for c in contents]
        answer = self._call("preupload", {"items": items, "namespace": self._namespace})
        missing = answer.get("items") or []
        for item in missing:
            assert item["upload_ticket"]
        with ThreadPoolExecutor(IO_THREADS) as pool:
            list(pool.map(lambda item: self._push(contents[int(item["index"])], item), missing))
        return len(missing)

    def fetch(self, digest: str) -> bytes:
        """One blob, inside JSON or from where the server says."""
        answer = self._call("retrieve", {"digest": digest, "namespace": self._namespace, "offset": 0})
        if answer.get("url"):
            got = self._session.get(answer["url"], stream=True)
            assert (got.status_code, got.headers.get("Content-Encoding")) == (200, None)
            stored = got.raw.read(decode_content=False)
        else:
            stored = base64.b64decode(answer["content"])
        content = zlib.decompress(stored) if self._is_compressed else stored
        assert self.digest(content) == digest
        return bytes(content)

    def digest(self, content: bytes) -> str:
        return hashlib.new(self._algorithm, content, usedforsecurity=False).hexdigest()

    def close(self) -> None:
        self._session.close()

    def server_details(self) -> Any:
        """Declared as GET, but sent as POST."""
        return self._call("server_details", {})

    def greet(self) -> None:
        """What a client does first that was not told to work without accounts."""
        config = self._session.get(f"{self._url}/auth/api/v1/server/oauth_config").json()
        assert config.keys() >= {"client_id", "client_not_so_secret", "primary_url"}
        identity = self._session.get(f"{self._url}/auth/api/v1/accounts/self").json()["identity"]
        assert identity != "anonymous:anonymous"

    def _push(self, content: bytes, item: dict[str, Any]) -> None:
        stored = zlib.compress(content, 7) if self._is_compressed else content
        ticket = {"upload_ticket": item["upload_ticket"]}
        if not item.get("gs_upload_url"):
            document = ticket | {"content": base64.b64encode(stored).decode()}
            assert self._call("store_inline", document)["ok"]
            return
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": "public, max-age=31536000"}
        answer = self._session.put(item["gs_upload_url"], stored, headers=headers)
        md5 = base64.b64encode(hashlib.md5(stored, usedforsecurity=False).digest()).decode()
        assert answer.status_code == 200
        assert f"md5={md5}" in answer.headers["x-goog-hash"]
        assert self._call("finalize_gs_upload", ticket)["ok"]

    def _call(self, method: str, document: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        answer = self._session.post(f"{self._url}{BASE}{method}", json.dumps(document).encode(), headers=headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.mark.parametrize("slash", ["", "/"], ids=["plain address", "address with a slash"])
@pytest.mark.parametrize("namespace", ["default-gzip", "default", "sha256-GCP-gzip"])
def test_a_python_3_client_archives_and_fetches(each_server: Served, namespace: str, slash: str) -> None:
    client = Python3(each_server.url + slash, namespace)
    contents = [f"{namespace} {slash} {number}\n".encode() * 100 * number for number in range(1, 60)]
    assert client.server_details()["server_version"]
    assert client.archive(contents) == len(contents)
    assert client.archive([f"document {namespace} {slash}".encode()], is_isolated=True) == 1
    assert client.archive(contents) == 0
    for content in contents:
        assert client.fetch(client.digest(content)) == content
    client.close()


def test_a_python_3_client_archives_and_fetches_the_empty_file(each_server: Served) -> None:
    for namespace in ("python3-gzip", "python3"):
        client = Python3(each_server.url, namespace)
        assert client.archive([b"", b"x", b""]) == 3
        assert client.archive([b""]) == 0
        assert client.fetch(client.digest(b"")) == b""
        client.close()


def test_a_python_3_client_is_content_with_the_md5_of_a_streamed_blob(server: Served) -> None:
    client = Python3(server.url)
    content = os.urandom(2**20) + bytes(64 * 2**20)
    assert client.archive([content]) == 1
    assert client.fetch(client.digest(content)) == content
    client.close()


def test_a_python_3_client_that_was_told_nothing_of_accounts_goes_on(server: Served) -> None:
    client = Python3(server.url.replace("127.0.0.1", "localhost"))
    client.greet()
    assert client.archive([b"from somebody"]) == 1
    client.close()
