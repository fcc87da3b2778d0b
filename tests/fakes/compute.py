"""Compute Engine in one process, for tests: it takes only requests that the API's own description allows.

The description (the discovery document) is the one that google-api-python-client ships. A request with an unknown
path, parameter or value is answered 400 and noted in `violations`, which the test must find empty.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

BASE = "/compute/v1/"
TOKEN = "a-token-of-the-fake"
MAX_RESULTS = 500  # "Acceptable values are 0 to 500", says the parameter's text
Document = dict[str, Any]
_CONDITION = re.compile(r'\((?P<key>[\w.-]+) = "(?P<value>[^"]*)"\)\s*')
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class NotAllowed(Exception):
    """The API's description knows no such request."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of the API, as the description has it."""

    id: str
    http_method: str
    path: re.Pattern[str]
    parameters: Mapping[str, Document]

    def check(self, query: Mapping[str, list[str]], common: Mapping[str, Document]) -> None:
        """Raises NotAllowed for a parameter that is unknown, missing or of a wrong form."""
        known = {**common, **self.parameters}
        for name, values in query.items():
            if name not in known or known[name].get("location", "query") != "query":
                raise NotAllowed(f"{self.id} has no parameter {name}")
            for value in values:
                _check_value(name, known[name], value)
        needed = (name for name, spec in self.parameters.items() if spec.get("required") and _is_in_query(spec))
        if missing := [name for name in needed if name not in query]:
            raise NotAllowed(f"{self.id} needs {missing[0]}")


def _is_in_query(spec: Document) -> bool:
    return bool(spec["location"] == "query")


def _check_value(name: str, spec: Document, value: str) -> None:
    if spec["type"] == "integer" and not value.isdigit():
        raise NotAllowed(f"{name} is {value}, not a number")
    if name == "maxResults" and int(value) > MAX_RESULTS:
        raise NotAllowed(f"{name} is {value}, more than {MAX_RESULTS}")
    if spec["type"] == "boolean" and value not in ("true", "false"):
        raise NotAllowed(f"{name} is {value}, not true or false")
    if "enum" in spec and value not in spec["enum"]:
        raise NotAllowed(f"{name} is {value}, none of {spec['enum']}")
    if "pattern" in spec and not re.fullmatch(spec["pattern"], value):
        raise NotAllowed(f"{name} is {value}, which does not match {spec['pattern']}")


def read_description() -> Document:
    """The discovery document of compute v1."""
    documents = files("googleapiclient") / "discovery_cache" / "documents"
    description: Document = json.loads((documents / "compute.v1.json").read_text(encoding="utf-8"))
    return description


def _methods(description: Document) -> Iterator[Method]:
    for resource in description["resources"].values():
        for spec in resource.get("methods", {}).values():
            yield Method(
                id=spec["id"],
                http_method=spec["httpMethod"],
                path=_path_of(spec),
                parameters=spec.get("parameters", {}),
            )


def _path_of(spec: Document) -> re.Pattern[str]:
    """The path as an expression; each of its parameters matches what the description says of it."""
    parts = re.split(r"{(\w+)}", spec["flatPath"])
    texts = [
        re.escape(part) if position % 2 == 0 else f"(?P<{part}>{_pattern_of(spec, part)})"
        for position, part in enumerate(parts)
    ]
    return re.compile("".join(texts))


def _pattern_of(spec: Document, name: str) -> str:
    return str(spec["parameters"].get(name, {}).get("pattern", "[^/]+"))


@dataclass(kw_only=True)
class FakeCompute:
    """The project `project` and its instances by zone. `refusals`: statuses of the next answers, first one first."""

    project: str = "our-project"
    zones: dict[str, list[Document]] = field(default_factory=dict)
    page_size: int = 500
    refusals: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    needs_token: bool = False

    def __post_init__(self) -> None:
        description = read_description()
        self.common: Mapping[str, Document] = description["parameters"]
        self.methods = tuple(_methods(description))

    def add(self, name: str, zone: str, address: str, *, status: str = "RUNNING", **labels: str) -> None:
        """Put an instance into the project, with the fields that matter here."""
        interface = {"networkIP": address, "name": "nic0"}
        made = {"name": name, "status": status, "labels": labels, "networkInterfaces": [interface]}
        self.zones.setdefault(zone, []).append(made)

    def answer(self, http_method: str, target: str, authorization: str | None) -> tuple[int, Document]:
        """Status and body of a request. Raises NotAllowed."""
        self.requests.append(target)
        if self.needs_token and authorization != f"Bearer {TOKEN}":
            return 401, _error(401, "no token")
        if self.refusals:
            status = self.refusals.pop(0)
            return status, _error(status, "refused")
        url = urlsplit(target)
        method, names = self._method(http_method, url.path.removeprefix(BASE) if url.path.startswith(BASE) else "")
        query = parse_qs(url.query, keep_blank_values=True)
        method.check(query, self.common)
        if method.id != "compute.instances.aggregatedList":
            raise NotAllowed(f"the fake does not do {method.id}")
        if names["project"] != self.project:
            return 404, _error(404, f"The resource 'projects/{names['project']}' was not found")
        return 200, self._aggregated_list({name: values[-1] for name, values in query.items()})

    def _method(self, http_method: str, path: str) -> tuple[Method, Mapping[str, str]]:
        for method in self.methods:
            match = method.path.fullmatch(path)
            if match and method.http_method == http_method:
                return method, match.groupdict()
        raise NotAllowed(f"the API has no {http_method} {path}")

    def _aggregated_list(self, query: Mapping[str, str]) -> Document:
        found = [
            (zone, instance)
            for zone, instances in sorted(self.zones.items())
            for instance in instances
            if _matches(instance, query.get("filter", ""))
        ]
        size = min(self.page_size, int(query.get("maxResults", "500")))
        start = int(query.get("pageToken", "0"))
        # Zones without results are in every answer, with a warning in the place of instances.
        items: Document = {f"zones/{zone}": {"warning": {"code": "NO_RESULTS_ON_PAGE"}} for zone in self.zones}
        for zone, instance in found[start : start + size]:
            items[f"zones/{zone}"].pop("warning", None)
            items[f"zones/{zone}"].setdefault("instances", []).append(instance)
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return {"kind": "compute#instanceAggregatedList", "items": items, **more}

    def grant(self, body: bytes) -> Document:
        """What the token server says to a service account. Raises NotAllowed."""
        form = dict(parse_qsl(body.decode()))
        if form.keys() != {"grant_type", "assertion"} or form["grant_type"] != _JWT_GRANT:
            raise NotAllowed(f"the token server takes no {sorted(form)}")
        return {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}


def _matches(instance: Document, expression: str) -> bool:
    """Whether all conditions hold. Raises NotAllowed for what is no chain of (KEY = "VALUE")."""
    if _CONDITION.sub("", expression):
        raise NotAllowed(f"the filter {expression} is not understood")
    conditions = _CONDITION.findall(expression)
    flat = {"status": instance["status"], **{f"labels.{key}": value for key, value in instance["labels"].items()}}
    return all(flat.get(key) == value for key, value in conditions)


def _error(status: int, message: str) -> Document:
    return {"error": {"code": status, "message": message, "errors": [{"reason": "fake", "message": message}]}}


@contextmanager
def serving(fake: FakeCompute) -> Iterator[str]:
    """Serve it on loopback; gives the address that `api_endpoint` takes. /token beside it is the token server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply(lambda: fake.answer("GET", self.path, self.headers.get("Authorization")))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._reply(
                lambda: (200, fake.grant(body)) if self.path == "/token" else fake.answer("POST", self.path, None)
            )

        def _reply(self, work: Any) -> None:
            try:
                status, document = work()
            except NotAllowed as exc:
                fake.violations.append(str(exc))
                status, document = 400, _error(400, str(exc))
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Tests look at `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{BASE}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
