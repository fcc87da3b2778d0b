"""What the isolate server counts. Under several worker processes the counts are those of all of them."""

import time

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from dist_test.serving import registry_of_all_workers

_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.received_bytes = Counter(
            "dist_test_isolate_received_bytes", "Bytes of blobs received, as sent.", registry=self._registry
        )
        self.sent_bytes = Counter(
            "dist_test_isolate_sent_bytes", "Bytes of blobs sent, as stored.", registry=self._registry
        )
        self._requests = Counter(
            "dist_test_isolate_requests", "Requests answered.", ["view", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "dist_test_isolate_request_seconds",
            "Seconds to the first byte of an answer.",
            ["view"],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def observe(self, app: Flask) -> None:
        """Count every request of the application."""
        app.before_request(self._start)
        app.after_request(self._finish)

    def render(self) -> tuple[bytes, str]:
        """The counts in the text format of Prometheus, and its content type."""
        return generate_latest(registry_of_all_workers(self._registry)), CONTENT_TYPE_PLAIN_0_0_4

    def _start(self) -> None:
        g.started = time.monotonic()

    def _finish(self, response: Response) -> Response:
        # The view's name, not the path: a path has a digest in it.
        view = (request.endpoint or "unknown").rpartition(".")[2]
        self._requests.labels(view, str(response.status_code)).inc()
        self._seconds.labels(view).observe(time.monotonic() - g.started)
        return response
