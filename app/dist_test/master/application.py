"""The master as a WSGI application: wiring only."""

from flask import Flask, Response, request

from dist_test.master import assets, failures, metrics
from dist_test.master.api import api
from dist_test.master.audit_desk import AuditDesk
from dist_test.master.auth import NONCE_MEMORY, Guard
from dist_test.master.door import FrontDoor
from dist_test.master.forecast import Forecast
from dist_test.master.kept import Kept
from dist_test.master.live import Live
from dist_test.master.openapi_page import openapi
from dist_test.master.operations import operations
from dist_test.master.original import original
from dist_test.master.overview import Overview
from dist_test.master.pages import web
from dist_test.master.probes import Probe
from dist_test.master.service import Service
from dist_test.master.site import ResultStore, Site, install
from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.nonces import Nonces
from dist_test.storage.queue import Queues

# Text from tests is shown here. No script, no style, no picture but our own files, and nobody may put us in a frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
# The original's, to the letter (compatibility.md 1).
_UNCACHED = {
    "Cache-Control": "no-cache, no-store",
    "Pragma": "no-cache",
    "Expires": "Sat, 01 Jan 1970 00:00:00 GMT",
}
# Slaves say something new every five seconds. A rendering of 3,200 slots takes 100 ms of a processor.
_HOME_SECONDS = 2.0
_HOME_STALE_SECONDS = 5.0  # while another thread makes a new one
_CACHED_ENDPOINTS = ("original.view_log", "static")


def create_app(
    settings: MasterSettings, *, service: Service, database: Database, queues: Queues, results: ResultStore
) -> Flask:
    """The application. Make everything that it is given in the process that serves: none of it survives a fork."""
    app = Flask("dist_test.master")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    # Werkzeug's own limit is 500 kB for forms: too little for 2,000 tasks.
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    assets.install(app)
    install(app.extensions, _site(settings, service, database, queues, results))
    for blueprint in (api, openapi, original, operations, web):
        app.register_blueprint(blueprint)
    metrics.observe(app)
    failures.register(app)
    Guard(settings, Nonces(database, kept_for=NONCE_MEMORY)).init_app(app)
    app.after_request(_add_headers)
    door = FrontDoor(app.wsgi_app, trusted=settings.trusted_proxies, max_body_bytes=settings.max_body_bytes)
    app.wsgi_app = door  # type: ignore[method-assign]  # as Flask documents it
    return app


def _site(settings: MasterSettings, service: Service, database: Database, queues: Queues, results: ResultStore) -> Site:
    overview = Overview(service.jobs, service.slaves, queues)
    return Site(
        service=service,
        results=results,
        overview=overview,
        forecast=Forecast(service.jobs, service.slaves),
        home=Kept(seconds=_HOME_SECONDS, stale_seconds=_HOME_STALE_SECONDS),
        live=Live(service.jobs, service.live_logs, results),
        audits=AuditDesk(database, queues, grace=settings.queued_grace),
        isolate_server=settings.isolate_server,
        probes={"database": Probe(database.check_schema), "queue": Probe(overview.tube)},
    )


def _add_headers(response: Response) -> Response:
    response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    # Not no-referrer: with that, browsers send "Origin: null" with our own forms, as they do with a hostile frame's.
    response.headers["Referrer-Policy"] = "same-origin"
    if request.endpoint not in _CACHED_ENDPOINTS:
        response.headers.update(_UNCACHED)
    return response
