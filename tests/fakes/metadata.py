"""A strict metadata server of Compute Engine: what the documents say of it, and nothing that they do not."""

import json
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROOT = "/computeMetadata/v1"
ACCOUNT = f"{ROOT}/instance/service-accounts/default"
EMAIL = "autoscaler@our-project.iam.gserviceaccount.com"
# What google-auth asks for beside the token.
_LOGIN = {
    "/": "computeMetadata/",
    f"{ACCOUNT}/": json.dumps(
        {
            "aliases": ["default"],
            "email": EMAIL,
            "scopes": ["https://www.googleapis.com/auth/compute"],
        }
    ),
    f"{ROOT}/project/project-id": "our-project",
    f"{ROOT}/universe/universe-domain": "googleapis.com",
}


class FakeMetadata:
    """Serves one instance on a port of `host`. Requests against the rules are refused, and kept in `violations`.

    attributes: those of the instance. next_statuses: given before anything else is looked at. tokens: given one after
    the other to who logs in, the last one for ever. watches: requests about a preemption, which a slave makes all the
    time; requests: all others.
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
        self.watches = 0
        self.violations: list[str] = []
        self.tokens: deque[str] = deque(["a-token-of-the-machine"])
        self._preempted = "FALSE"
        self._changed = threading.Condition()
        self._is_stopping = False
        self._port = port
        self._host = "127.0.0.1"
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def start(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._is_stopping = False
        self._server = ThreadingHTTPServer((host, self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def preempt(self) -> None:
        """From now on the instance is told that it will be taken away."""
        with self._changed:
            self._preempted = "TRUE"
            self._changed.notify_all()

    def etag(self) -> str:
        """Changes with what can be waited for."""
        return f"e{self._preempted.lower()}"

    def answer(self, target: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body for a GET."""
        is_watch = urlsplit(target).path == f"{ROOT}/instance/preempted"
        self.watches += is_watch
        self.requests += not is_watch
        if self.next_statuses:
            return self.next_statuses.popleft(), b""
        if headers.get("metadata-flavor") != "Google":
            return self._refuse(403, "Metadata-Flavor: Google is missing")
        if "x-forwarded-for" in headers:
            return self._refuse(403, "X-Forwarded-For is set: the request came through a proxy")
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == f"{ROOT}/instance/preempted":
            return self._answer_preempted(query)
        if url.path == f"{ROOT}/instance/" and query == {"recursive": "true"}:
            return 200, json.dumps(self._instance()).encode()
        # An account answers to its address too.
        path = url.path.replace(f"/service-accounts/{EMAIL}/", "/service-accounts/default/")
        if path == f"{ACCOUNT}/token" and query.keys() <= {"scopes"}:
            return 200, json.dumps(self._token()).encode()
        if path in _LOGIN and query.keys() <= {"recursive"}:
            return 200, _LOGIN[path].encode()
        return self._refuse(404, f"{target} is not known")

    def _answer_preempted(self, query: dict[str, str]) -> tuple[int, bytes]:
        """ "Query VM metadata": wait_for_change answers when the value is no longer that of last_etag."""
        if unknown := query.keys() - {"wait_for_change", "last_etag", "timeout_sec"}:
            return self._refuse(400, f"preempted has no parameter {sorted(unknown)}")
        if query.get("wait_for_change") == "true":
            last = query.get("last_etag", self.etag())
            seconds = float(query.get("timeout_sec", "3600"))
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopping or self.etag() != last, seconds)
        return 200, self._preempted.encode()

    def _token(self) -> dict[str, Any]:
        token = self.tokens[0] if len(self.tokens) == 1 else self.tokens.popleft()
        return {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}

    def _instance(self) -> dict[str, Any]:
        return {
            "attributes": self.attributes,
            "hostname": f"{self.name}.c.project.internal",
            "id": self.instance_id,
            "machineType": "projects/123456/machineTypes/n2-standard-8",
            "name": self.name,
            "preempted": self._preempted,
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
            self.send_header("ETag", metadata.etag())
            self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "application/text")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test's own output is the one to read."""

    return Handler
