"""Python clients of 2014: how they archive and download, request by request (isolate.md 2 and 9)."""

import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import requests.adapters

from .served import Served

NAMESPACE = "default-gzip"
IO_THREADS = 16
TRIES = 6
FIRST_BATCHES = (20, 20, 50, 50, 50)
LATER_BATCH = 100
JSON_TYPE = {"Content-Type": "application/json; charset=UTF-8"}


@dataclass(frozen=True, kw_only=True)
class Item:
    """A file or an .isolated document to archive."""

    content: bytes
    is_isolated: bool = False

    @property
    def digest(self) -> str:
        return hashlib.sha1(self.content, usedforsecurity=False).hexdigest()


class Python2014:
    """One process of the client."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        self._session.headers["User-Agent"] = "python-requests/2.0.0 CPython/2.7 Linux"
        self._session.headers["Accept-Encoding"] = "gzip, deflate, compress"
        self._token = ""

    def archive(self, items: Sequence[Item]) -> int:
        """Upload what is missing, the largest first; how many were."""
        ordered = sorted(items, key=lambda item: len(item.content), reverse=True)
        with ThreadPoolExecutor(IO_THREADS) as pool:
            self._shake_hands()
            lookups = [(batch, pool.submit(self._pre_upload, batch)) for batch in batches(ordered)]
            pushes = []
            for batch, lookup in lookups:
                found = lookup.result()
                pushes += [pool.submit(self._push, item, to) for item, to in zip(batch, found, strict=True) if to]
            for push in pushes:
                push.result()
        return len(pushes)

    def download(self, digest: str, target: Path) -> dict[str, Any]:
        """Fetch a tree into a directory: the document, those it includes, and the files; the root document."""
        root: dict[str, Any] = json.loads(self.fetch(digest))
        files = dict(self._files(root))
        with ThreadPoolExecutor(IO_THREADS) as pool:
            wanted = {name: entry["h"] for name, entry in files.items() if "h" in entry}
            for name, content in zip(wanted, pool.map(self.fetch, wanted.values()), strict=True):
                assert len(content) == files[name]["s"]
                path = target / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(files[name]["m"] & 0o500)
        return root

    def fetch(self, digest: str) -> bytes:
        """One blob; as often as the client tries, then IOError."""
        for _ in range(TRIES):
            answer = self._session.get(f"{self._url}/content-gs/retrieve/{NAMESPACE}/{digest}", stream=True)
            # As it comes from the socket: the client undoes no encoding.
            body = answer.raw.read(decode_content=False)
            if answer.status_code == 200:
                content = zlib.decompress(body)
                assert hashlib.sha1(content, usedforsecurity=False).hexdigest() == digest
                return content
        raise OSError(f"Request failed - {answer.url}")

    def close(self) -> None:
        self._session.close()

    def _files(self, document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for included in document.get("includes", []):
            yield from self._files(json.loads(self.fetch(included)))
        yield from document.get("files", {}).items()

    def _shake_hands(self) -> None:
        if self._token:
            return
        greeting = {"client_app_version": "0.3.4", "fetcher": True, "protocol_version": "1.0", "pusher": True}
        answer = self._post(f"{self._url}/content-gs/handshake", greeting)
        assert not answer.get("error"), answer["error"]
        assert isinstance(answer["protocol_version"], str)
        assert isinstance(answer["server_app_version"], str)
        self._token = quote(answer["access_token"])
        assert self._token

    def _pre_upload(self, batch: Sequence[Item]) -> list[Any]:
        items = [{"h": item.digest, "s": len(item.content), "i": int(item.is_isolated)} for item in batch]
        # The library quotes it once more.
        found = self._post(f"{self._url}/content-gs/pre-upload/{NAMESPACE}?token={quote(self._token)}", items)
        assert isinstance(found, list)
        assert len(found) == len(batch)
        return found

    def _push(self, item: Item, to: Sequence[Any]) -> None:
        upload_url, finalize_url = to
        stored = zlib.compress(item.content, 6 if item.is_isolated else 7)
        answer = self._session.put(upload_url, stored, headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code < 400, answer.text
        if finalize_url:
            finished = self._session.post(finalize_url, b"", headers={"Content-Type": "application/json"})
            assert finished.status_code < 400, finished.text

    def _post(self, url: str, document: Any) -> Any:
        answer = self._session.post(url, json.dumps(document, separators=(",", ":")).encode(), headers=JSON_TYPE)
        assert answer.status_code == 200, answer.text
        return answer.json()


def batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    start = 0
    sizes = iter(FIRST_BATCHES)
    while start < len(items):
        size = next(sizes, LATER_BATCH)
        yield items[start : start + size]
        start += size


def tree(name: str, count: int) -> tuple[list[Item], Item]:
    """Files, an empty one among them, and the .isolated document that this client writes for them."""
    files = {f"d{number % 7}/f{number}": f"{name} {number}\n".encode() * (number * 50) for number in range(count)}
    items = {path: Item(content=content) for path, content in files.items()}
    entries = {path: {"h": i.digest, "m": 416, "s": len(i.content)} for path, i in items.items()}
    document = {
        "algo": "sha-1",
        "command": ["./f1"],
        "files": entries,
        "read_only": 1,
        "relative_cwd": ".",
        "version": "1.4",
    }
    isolated = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    return list(items.values()), Item(content=isolated, is_isolated=True)


@pytest.mark.parametrize("slash", ["", "/"], ids=["plain address", "address with a slash"])
def test_a_python_2014_client_archives_and_a_slave_of_its_day_downloads(
    each_server: Served, tmp_path: Path, slash: str
) -> None:
    files, isolated = tree(f"{each_server.url}{slash}", 250)
    developer, slave = Python2014(each_server.url + slash), Python2014(each_server.url + slash)
    developer.archive([Item(content=b"")])
    assert developer.archive([*files, isolated]) == 250
    assert developer.archive([*files, isolated]) == 0
    document = slave.download(isolated.digest, tmp_path)
    assert document["command"] == ["./f1"]
    fetched = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("f*")}
    assert sorted(fetched.values()) == sorted(item.content for item in files)
    assert slave.fetch(isolated.digest) == isolated.content
    developer.close()
    slave.close()


def test_a_python_2014_client_gives_up_soon_on_a_digest_that_is_missing(server: Served) -> None:
    client = Python2014(server.url)
    began = time.monotonic()
    with pytest.raises(OSError, match="Request failed"):
        client.fetch("c" * 40)
    assert time.monotonic() - began < 10
    client.close()


def test_a_python_2014_client_streams_a_blob_of_several_megabytes(each_server: Served) -> None:
    item = Item(content=os.urandom(5 * 2**20))
    client = Python2014(each_server.url)
    assert client.archive([item]) == 1
    assert client.fetch(item.digest) == item.content
    client.close()
