"""What is not about blobs: whether the server is well, what it counts, and what old clients ask about accounts."""

import logging

from flask import Blueprint, Response

from dist_test.errors import ResultStoreUnavailable
from dist_test.isolate.server.wire import json_answer, state

logger = logging.getLogger(__name__)

service = Blueprint("service", __name__)


@service.get("/auth/api/v1/server/oauth_config")
def oauth_config() -> Response:
    return json_answer({"client_id": None, "client_not_so_secret": None, "primary_url": None})


@service.get("/auth/api/v1/accounts/self")
def account() -> Response:
    # Python clients that were not told to do without accounts refuse to work as "anonymous".
    return json_answer({"identity": "user:anyone@dist_test"})


@service.get("/healthz")
def healthz() -> Response:
    try:
        state().store.check()
    except (OSError, ResultStoreUnavailable) as exc:
        logger.warning("the store cannot be used: %s", exc)
        return json_answer({"status": "unavailable", "error": str(exc)}, 503)
    return json_answer({"status": "ok"})


@service.get("/metrics")
def metrics() -> Response:
    text, content_type = state().metrics.render()
    return Response(text, content_type=content_type)
