"""What an operator's tools ask: /metrics, /healthz, /readyz and /plan."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from dist_test.errors import ConfigurationError

Answer = tuple[int, str, bytes]
"""Status, content type, body."""

SILENCE_SECONDS = 10  # of a client in the middle of its request


def answers(
    registry: CollectorRegistry,
    *,
    health: Callable[[], tuple[bool, str]],
    readiness: Callable[[], tuple[bool, str]],
    plan: Callable[[], Mapping[str, Any] | None],
) -> Mapping[str, Callable[[], Answer]]:
    """The pages by path."""

    def last_plan() -> Answer:
        document = plan()
        if document is None:
            return 404, "text/plain", b"nothing was decided yet\n"
        return 200, "application/json", json.dumps(document).encode()

    return {
        "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
        "/healthz": lambda: _verdict(*health()),
        "/readyz": lambda: _verdict(*readiness()),
        "/plan": last_plan,
    }


def _verdict(is_good: bool, why: str) -> Answer:
    return 200 if is_good else 503, "text/plain", f"{why}\n".encode()


@contextmanager
def serving(listen: str, pages: Mapping[str, Callable[[], Answer]]) -> Iterator[int]:
    """Serve the pages on HOST:PORT in threads of their own; gives the port. Raises ConfigurationError."""
    host, _, port = listen.rpartition(":")
    try:
        server = _Server((host.strip("[]"), int(port)), _handler(pages))
    except OSError as exc:
        raise ConfigurationError(f"autoscale.listen: {listen} cannot be listened on: {exc.strerror}") from exc
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="web", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _handler(pages: Mapping[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SILENCE_SECONDS

        def do_GET(self) -> None:  # http.server's name
            page = pages.get(self.path.partition("?")[0])
            status, kind, body = page() if page else (404, "text/plain", f"{', '.join(pages)}\n".encode())
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds; nobody wants to read of them."""

    return Handler
