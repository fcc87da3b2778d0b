"""The isolate server as we ship it: the program, under gunicorn, on loopback."""

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_test.local.daemons import SeaweedFs
from dist_test.local.ports import free_port

from .raw import DEADLINE_SECONDS, Answer, exchange, head

V1 = "/_ah/api/isolateservice/v1/"
V1_DIRECT = "/api/isolateservice/v1/"
GZIP = "default-gzip"
RAW = "default"
TOKEN_KEY = "the key of the conformance tests"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, target: str, body: bytes | None = None, *lines: str) -> Answer:
        """One request with a Content-Length, if it has a body. `target`: a path, or an address of this server."""
        path = target.removeprefix(self.url)
        length = () if body is None else (f"Content-Length: {len(body)}",)
        whole = head(method, path, *length, *lines, host=f"127.0.0.1:{self.port}") + (body or b"")
        return exchange(self.port, whole, to_head=method == "HEAD")

    def post(self, target: str, document: Any) -> Answer:
        """A JSON document, as Python clients send it."""
        return self.request("POST", target, json.dumps(document).encode(), "Content-Type: application/json")

    def call(self, method: str, document: Any) -> Answer:
        """One call of v1."""
        return self.post(V1 + method, document)

    def missing(self, contents: Sequence[bytes], *, namespace: str = GZIP, **more: Any) -> list[dict[str, Any]]:
        """Look contents up in v1; the answer's items, empty when all are there."""
        answer = self.call("preupload", lookup(contents, namespace=namespace) | more)
        assert answer.status == 200, answer
        items: list[dict[str, Any]] = answer.json.get("items", [])
        return items

    def is_present(self, content: bytes, *, namespace: str = GZIP) -> bool:
        return not self.missing([content], namespace=namespace)

    def ticket(self, content: bytes, *, namespace: str = GZIP) -> str:
        """Leave to send a content, which is missing, inline."""
        (item,) = self.missing([content], namespace=namespace)
        assert "gs_upload_url" not in item
        return str(item["upload_ticket"])

    def stream_item(self, content: bytes, *, namespace: str = GZIP) -> dict[str, Any]:
        """Leave to send a content, which is missing, to an address of its own."""
        (item,) = self.missing([content], namespace=namespace, inline_limit=0)
        assert item["gs_upload_url"].startswith("http")
        return item

    def store_inline(self, ticket: str, stored: bytes) -> Answer:
        return self.call("store_inline", {"upload_ticket": ticket, "content": base64.b64encode(stored).decode()})

    def put(self, content: bytes, *, namespace: str = GZIP, stored: bytes | None = None) -> str:
        """Upload through v1 if it is missing; its digest."""
        for item in self.missing([content], namespace=namespace):
            form = stored_form(content, namespace) if stored is None else stored
            assert self.store_inline(item["upload_ticket"], form).status == 200
        return digest_of(content, namespace)

    def retrieve(self, digest: str, *lines: str, namespace: str = GZIP, method: str = "GET") -> Answer:
        """Through the older protocol."""
        return self.request(method, f"/content-gs/retrieve/{namespace}/{digest}", None, *lines)

    def handshake(self) -> str:
        """A token for pre_upload."""
        greeting = {"client_app_version": "0.3.4", "fetcher": True, "protocol_version": "1.0", "pusher": True}
        return str(self.post("/content-gs/handshake", greeting).json["access_token"])

    def pre_upload(self, contents: Sequence[bytes], *, namespace: str = GZIP) -> list[Any]:
        """Look contents up in the older protocol."""
        items = [{"h": digest_of(content, namespace), "s": len(content), "i": 0} for content in contents]
        answer = self.post(f"/content-gs/pre-upload/{namespace}?token={self.handshake()}", items)
        assert answer.status == 200, answer
        found: list[Any] = answer.json
        return found

    def worker_pids(self) -> list[int]:
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def digest_of(content: bytes, namespace: str = GZIP) -> str:
    """The digest of a content, by the algorithm of its namespace."""
    algorithm = next((name for name in ("sha256", "sha512") if namespace.startswith(f"{name}-")), "sha1")
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def stored_form(content: bytes, namespace: str = GZIP, level: int = 7) -> bytes:
    """A content as it is sent and kept."""
    return zlib.compress(content, level) if namespace.endswith(("-gzip", "-deflate")) else content


def lookup(contents: Sequence[bytes], *, namespace: str = GZIP) -> dict[str, Any]:
    """The document that looks contents up in v1."""
    items = [
        {"digest": digest_of(content, namespace), "is_isolated": False, "size": len(content)} for content in contents
    ]
    return {"items": items, "namespace": {"namespace": namespace}}


def disk_store(state: Path) -> dict[str, str]:
    """The settings of a store on disk."""
    return {"DIST_TEST_ISOLATE_SERVER_STORE": f"disk:{state}/store"}


def s3_store(seaweedfs: SeaweedFs, bucket: str) -> dict[str, str]:
    """The settings of a store in a bucket."""
    return {
        "DIST_TEST_ISOLATE_SERVER_STORE": f"s3:{bucket}",
        "AWS_ACCESS_KEY": seaweedfs.access_key,
        "AWS_SECRET_KEY": seaweedfs.secret_key,
        "AWS_ENDPOINT_URL": seaweedfs.endpoint_url,
        "TEST_RESULT_BUCKET": bucket,
    }


@contextlib.contextmanager
def serving(state: Path, store: Mapping[str, str]) -> Iterator[Served]:
    """Run the server until the context ends."""
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(state),
        "DIST_TEST_ISOLATE_SERVER_BIND": f"127.0.0.1:{port}",
        "DIST_TEST_ISOLATE_SERVER_TOKEN_KEY": TOKEN_KEY,
        **store,
    }
    program = Path(sys.executable).with_name("dist-test-isolate")
    log = state / "log"
    with log.open("ab") as output:
        process = subprocess.Popen([program], env=environment, stdout=output, stderr=output)
    served = Served(port=port, process=process, log=log)
    try:
        _wait_until_well(served)
        yield served
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def _wait_until_well(served: Served) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not _is_well(served):
        assert served.process.poll() is None, served.log.read_text()
        assert time.monotonic() < deadline, served.log.read_text()
        time.sleep(0.05)


def _is_well(served: Served) -> bool:
    try:
        return served.request("GET", "/healthz").status == 200
    except OSError:
        return False
