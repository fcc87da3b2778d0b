"""What operators and their programs ask: /stats, /healthz, /metrics."""

from dataclasses import asdict

from flask import Blueprint, Response, jsonify

from dist_test.master import metrics as figures
from dist_test.master.auth import open_to_all
from dist_test.master.failures import RETRY_AFTER_SECONDS
from dist_test.master.site import site

operations = Blueprint("operations", __name__)


@operations.get("/stats")
@open_to_all
def stats() -> Response:
    overview = site().overview
    work, fleet, tube = overview.work(), overview.fleet(), overview.tube()
    return jsonify(
        {
            "queue": {name: asdict(tube)[name] for name in ("ready", "reserved", "delayed", "buried")},
            "attempts": {"queued": work.queued_attempts, "running": work.running_attempts},
            "jobs": {"running": work.running_jobs, "submitting": work.submitting_jobs},
            "slaves": {"live": fleet.live, "idle": fleet.idle, "draining": fleet.draining},
        }
    )


@operations.get("/healthz")
@open_to_all
def healthz() -> Response:
    """Whether this master could take a job now. For load balancers: it costs one question to each server."""
    problems = {name: problem for name, probe in site().probes.items() if (problem := probe.problem())}
    if not problems:
        return jsonify({"status": "ok"})
    response = jsonify({"status": "unavailable", "problems": sorted(problems)})
    response.status_code = 503
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


@operations.get("/metrics")
@open_to_all
def metrics() -> Response:
    return Response(figures.render(site().overview), content_type=figures.CONTENT_TYPE)
