"""A strict metadata server of Compute Engine: what the documents say of it, and nothing that they do not."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeMetadata:
    """Serves one instance on a port of `host`. Requests against the rules are refused, and kept in `violations`.

    attributes: those of the instance. next_statuses: given before anything else is looked at.
    is_genuine: False makes an answer without the header by which one knows the server.
    """

    def __init__(self, *, name: str = "slave-x1f7", instance_id: int = 5583812935284419712, port: int = 0) -> None:
        self.name = name
        self.instance_id = instance_id
        self.zone = "projects/123456/zones/us-central1-a"
        self.attributes: dict[str, str] = {}
        self.next_statuses: deque[int] = deque()
        self.is_genuine = True
        self.requests = 0
        self.violations: list[str] = []
        self._port = port
        self._host = "127.0.0.1"
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def start(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._server = ThreadingHTTPServer((host, self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body for a GET."""
        self.requests += 1
        if self.next_statuses:
            return self.next_statuses.popleft(), b""
        if headers.get("metadata-flavor") != "Google":
            return self._refuse(403, "Metadata-Flavor: Google is missing")
        if "x-forwarded-for" in headers:
            return self._refuse(403, "X-Forwarded-For is set: the request came through a proxy")
        url = urlsplit(path)
        if url.path != "/computeMetadata/v1/instance/" or parse_qs(url.query) != {"recursive": ["true"]}:
            return self._refuse(404, f"{path} is not known")
        return 200, json.dumps(self._instance()).encode()

    def _instance(self) -> dict[str, Any]:
        return {
            "attributes": self.attributes,
            "hostname": f"{self.name}.c.project.internal",
            "id": self.instance_id,
            "machineType": "projects/123456/machineTypes/n2-standard-8",
            "name": self.name,
            "preempted": "FALSE",
            "zone": self.zone,
        }

    def _refuse(self, status: int, why: str) -> tuple[int, bytes]:
        self.violations.append(why)
        return status, why.encode()


def _handler(metadata: FakeMetadata) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = metadata.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            if metadata.is_genuine:
                self.send_header("Metadata-Flavor", "Google")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test's own output is the one to read."""

    return Handler
