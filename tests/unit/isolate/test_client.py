"""What the client makes of a server that answers nonsense."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dist_test.errors import DigestMismatch
from dist_test.isolate.client import IsolateClient


class _Nonsense(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = '{"content": "ö"}'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the test's own output is the one to read."""


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Nonsense)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_content_that_is_not_even_ascii_is_a_damaged_blob(url: str, tmp_path: Path) -> None:
    client = IsolateClient(url, sleep=lambda _: None)

    with pytest.raises(DigestMismatch, match="not base64"):
        client.fetch("a" * 40, tmp_path / "blob")
    client.close()
