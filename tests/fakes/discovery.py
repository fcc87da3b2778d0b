"""Google's API as its own description (the discovery document) has it: which requests and answers are allowed.

The description is the one that google-api-python-client ships.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

BASE = "/compute/v1/"
MAX_RESULTS = 500  # "Acceptable values are 0 to 500", says the parameter's text
Document = dict[str, Any]


class NotAllowed(Exception):
    """The API's description knows no such request, or no such answer."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came over the wire."""

    http_method: str
    target: str
    authorization: str | None
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that the API allows. `names` are the parameters in its path, `query` those behind it."""

    method: str
    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Document

    @property
    def action(self) -> str:
        """The method without its collection: resize, get, ..."""
        return self.method.rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of the API, as the description has it. `body` and `answer` name schemas; "" means there is none."""

    id: str
    http_method: str
    path: re.Pattern[str]
    depth: int
    parameters: Mapping[str, Document]
    body: str
    answer: str


class Description:
    """The discovery document of compute v1."""

    def __init__(self) -> None:
        documents = files("googleapiclient") / "discovery_cache" / "documents"
        document = json.loads((documents / "compute.v1.json").read_text(encoding="utf-8"))
        self._common: Mapping[str, Document] = document["parameters"]
        self._schemas: Mapping[str, Document] = document["schemas"]
        self._methods = {method.id: method for method in _methods(document)}
        # There are about nine hundred: look only at those that may be meant.
        self._by_form: dict[tuple[str, int], list[Method]] = {}
        for method in self._methods.values():
            self._by_form.setdefault((method.http_method, method.depth), []).append(method)

    def read(self, request: Request) -> Call:
        """The call that a request makes. Raises NotAllowed."""
        url = urlsplit(request.target)
        if not url.path.startswith(BASE):
            raise NotAllowed(f"the API is below {BASE}, not at {url.path}")
        method, names = self._find(request.http_method, url.path.removeprefix(BASE))
        query = parse_qs(url.query, keep_blank_values=True)
        self._check_query(method, query)
        return Call(
            method=method.id,
            names=names,
            query={name: values[-1] for name, values in query.items()},
            body=self._read_body(method, request.body),
        )

    def check_answer(self, call: Call, answer: Document) -> None:
        """Raises NotAllowed where the API could not answer so: then the fake is wrong."""
        self._check(answer, {"$ref": self._methods[call.method].answer}, f"the answer of {call.method}")

    def _find(self, http_method: str, path: str) -> tuple[Method, Mapping[str, str]]:
        for method in self._by_form.get((http_method, path.count("/")), ()):
            if match := method.path.fullmatch(path):
                return method, match.groupdict()
        raise NotAllowed(f"the API has no {http_method} {path}")

    def _check_query(self, method: Method, query: Mapping[str, list[str]]) -> None:
        known = {**self._common, **method.parameters}
        for name, values in query.items():
            if name not in known or known[name].get("location", "query") != "query":
                raise NotAllowed(f"{method.id} has no parameter {name}")
            for value in values:
                _check_parameter(name, known[name], value)
        needed = (name for name, spec in method.parameters.items() if spec.get("required") and _is_in_query(spec))
        if missing := [name for name in needed if name not in query]:
            raise NotAllowed(f"{method.id} needs {missing[0]}")

    def _read_body(self, method: Method, body: bytes) -> Document:
        if not method.body:
            if body:
                raise NotAllowed(f"{method.id} takes no body")
            return {}
        try:
            document: Document = json.loads(body)
        except ValueError as exc:
            raise NotAllowed(f"the body of {method.id} is no JSON: {exc}") from exc
        self._check(document, {"$ref": method.body}, f"the body of {method.id}")
        return document

    def _check(self, value: Any, spec: Document, path: str) -> None:
        if "$ref" in spec:
            spec = self._schemas[spec["$ref"]]
        kind = spec["type"]
        if kind == "object":
            self._check_object(value, spec, path)
        elif kind == "array":
            _check_type(value, list, path)
            for place, entry in enumerate(value):
                self._check(entry, spec["items"], f"{path}[{place}]")
        else:
            _check_scalar(value, spec, path)

    def _check_object(self, value: Any, spec: Document, path: str) -> None:
        _check_type(value, dict, path)
        properties = spec.get("properties", {})
        for name, entry in value.items():
            known = properties.get(name) or spec.get("additionalProperties")
            if known is None:
                raise NotAllowed(f"{path} has no field {name}")
            self._check(entry, known, f"{path}.{name}")


@cache
def description() -> Description:
    """Read once: it is large."""
    return Description()


def _is_in_query(spec: Document) -> bool:
    return bool(spec["location"] == "query")


def _check_parameter(name: str, spec: Document, value: str) -> None:
    if spec["type"] == "integer" and not value.isdigit():
        raise NotAllowed(f"{name} is {value}, not a number")
    if name == "maxResults" and int(value) > MAX_RESULTS:
        raise NotAllowed(f"{name} is {value}, more than {MAX_RESULTS}")
    if spec["type"] == "boolean" and value not in ("true", "false"):
        raise NotAllowed(f"{name} is {value}, not true or false")
    if spec["type"] == "string":
        _check_text(value, spec, name)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "any": (object,),
}


def _check_scalar(value: Any, spec: Document, path: str) -> None:
    kind = spec["type"]
    is_one: bool = isinstance(value, _TYPES[kind])
    if not is_one or (isinstance(value, bool) and kind in ("integer", "number")):
        raise NotAllowed(f"{path} is {value!r}, no {kind}")
    if kind == "string":
        _check_text(value, spec, path)


def _check_text(value: str, spec: Document, path: str) -> None:
    if spec.get("format") in ("int64", "uint64") and not value.isdigit():
        raise NotAllowed(f"{path} is {value}, not a number as text")
    if "enum" in spec and value not in spec["enum"]:
        raise NotAllowed(f"{path} is {value}, none of {spec['enum']}")
    if "pattern" in spec and not re.fullmatch(spec["pattern"], value):
        raise NotAllowed(f"{path} is {value}, which does not match {spec['pattern']}")


def _check_type(value: Any, wanted: type, path: str) -> None:
    if not isinstance(value, wanted):
        raise NotAllowed(f"{path} is {value!r}, no {wanted.__name__}")


def _methods(document: Document) -> Iterator[Method]:
    for resource in document["resources"].values():
        for spec in resource.get("methods", {}).values():
            yield Method(
                id=spec["id"].removeprefix("compute."),
                http_method=spec["httpMethod"],
                path=_path_of(spec),
                depth=spec["flatPath"].count("/"),
                parameters=spec.get("parameters", {}),
                body=spec.get("request", {}).get("$ref", ""),
                answer=spec.get("response", {}).get("$ref", ""),
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


def error(status: int, message: str, reason: str = "fake") -> Document:
    """An error as Google's APIs answer it."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return {"error": {"code": status, "message": message, "errors": errors}}


Answer = Callable[[Request], tuple[int, Document]]
"""Gives status and body. Raises NotAllowed, which is answered with 400."""


@contextmanager
def serving(answer: Answer, violations: list[str], *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve an API on loopback; gives the address that `api_endpoint` takes. What was not allowed is noted."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # as the real one: clients keep their connections

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PATCH(self) -> None:
            self._answer()

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            request = Request(
                http_method=self.command,
                target=self.path,
                authorization=self.headers.get("Authorization"),
                body=self.rfile.read(length),
            )
            try:
                status, document = answer(request)
            except NotAllowed as exc:
                violations.append(str(exc))
                status, document = 400, error(400, str(exc), "invalid")
            self._reply(status, json.dumps(document).encode())

        def _reply(self, status: int, content: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client has given up, as it does when nothing comes

        def log_message(self, *arguments: object) -> None:
            """Tests look at what the fake has noted."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True  # a client may keep its connection open for longer than the test lasts
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}{BASE}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
