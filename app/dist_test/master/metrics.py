"""What the master counts. Under several worker processes the counts are those of all of them."""

import time
from collections.abc import Iterator

from flask import Flask, Response, g, request
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from dist_test.errors import DatabaseUnavailable, QueueUnavailable
from dist_test.master.overview import Overview
from dist_test.serving import registry_of_all_workers

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.002, 0.005, 0.02, 0.1, 0.5, 2, 10, 60)
REQUESTS = Counter("dist_test_master_requests", "Requests answered.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "dist_test_master_request_seconds", "Seconds to the first byte of an answer.", ["route"], buckets=_SECONDS
)


def observe(app: Flask) -> None:
    """Count every request of the application."""
    app.before_request(_start)
    app.after_request(_finish)


def render(overview: Overview) -> bytes:
    """All figures in the text format of Prometheus."""
    now = CollectorRegistry()
    now.register(ClusterCollector(overview))
    return generate_latest(registry_of_all_workers(REGISTRY)) + generate_latest(now)


class ClusterCollector(Collector):
    """The state of the cluster at the moment of the question; a server that is away costs its figures only."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("dist_test_up", "1 when the server answers the master.", labels=["server"])
        for server, parts in (("database", self._database), ("queue", self._queue)):
            try:
                yield from list(parts())
                up.add_metric([server], 1)
            except (DatabaseUnavailable, QueueUnavailable):
                up.add_metric([server], 0)
        yield up

    def _database(self) -> Iterator[Metric]:
        work, fleet = self._overview.work(), self._overview.fleet()
        attempts = {"queued": work.queued_attempts, "running": work.running_attempts}
        yield _gauge("dist_test_attempts", "Unfinished attempts.", "state", attempts)
        jobs = {"running": work.running_jobs, "submitting": work.submitting_jobs}
        yield _gauge("dist_test_jobs", "Unfinished jobs.", "state", jobs)
        slaves = {"live": fleet.live, "idle": fleet.idle, "draining": fleet.draining}
        yield _gauge("dist_test_slaves", "Slaves that are alive, and some of them.", "state", slaves)
        yield GaugeMetricFamily("dist_test_slots", "Slots of the slaves that are alive.", value=fleet.slots)

    def _queue(self) -> Iterator[Metric]:
        tube = self._overview.tube()
        entries = {
            "ready": tube.ready,
            "reserved": tube.reserved,
            "delayed": tube.delayed,
            "buried": tube.buried,
        }
        yield _gauge("dist_test_queue_entries", "Entries in the tube.", "state", entries)


def _gauge(name: str, help_text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _start() -> None:
    g.started = time.monotonic()


def _finish(response: Response) -> Response:
    # The rule, not the path: paths have job ids in them, and anybody can make paths up.
    route = request.url_rule.rule if request.url_rule else "none"
    REQUESTS.labels(route, str(response.status_code)).inc()
    REQUEST_SECONDS.labels(route).observe(time.monotonic() - g.get("started", time.monotonic()))
    return response
