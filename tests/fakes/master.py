"""A master of one process and no database, for tests of clients: it takes only what the API allows, and remembers.

A request that no client of ours may make is answered 400 and noted in `violations`, which the test must find empty.
"""

import base64
import hashlib
import json
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

from dist_test.errors import InvalidJob
from dist_test.model.job import Job, parse_job
from dist_test.model.rerun import rerun_id
from dist_test.model.summary import COUNTER_NAMES

REALM = "dist_test"
Document = dict[str, Any]
_TIME = "2026-03-01T12:00:00.000000Z"
_STATES = frozenset(("queued", "running", "finished", "succeeded", "failed", "timed_out", "canceled", "flaky"))
_QUERIES = {
    "jobs": {"limit", "before"},
    "attempts": {"state", "q", "limit", "after"},
    "log": {"stream", "attempt", "offset", "encoding"},
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One reply. `cut_bytes`: that many bytes of the announced body are never sent."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: bytes


def json_answer(document: Any, status: int = 200, **headers: str) -> Answer:
    """An answer as the API gives them."""
    return Answer(
        status=status, body=json.dumps(document).encode(), headers={"Content-Type": "application/json", **headers}
    )


def error_answer(status: int, code: str, message: str, **headers: str) -> Answer:
    """A refusal as the API gives them."""
    return json_answer({"error": {"code": code, "message": message}}, status, **headers)


def job_document(job_id: str, *, result: str | None = None, **overrides: Any) -> Document:
    """A job object of the API: of one task that is running, or finished with `result`. Counters may be overridden."""
    total = overrides.pop("total_tasks", 1)
    finished = overrides.pop("finished_tasks", total if result else 0)
    failed = overrides.pop("failed_tasks", finished if result in ("failed", "canceled") else 0)
    counters: dict[str, int] = dict.fromkeys((*COUNTER_NAMES, "failed_attempts"), 0)
    counters |= {"total_tasks": total, "finished_tasks": finished, "failed_tasks": failed}
    counters |= {"succeeded_tasks": finished - failed, "total_attempts": total, "finished_attempts": finished}
    counters |= {name: overrides.pop(name) for name in counters if name in overrides}
    document: Document = {
        "job_id": job_id,
        "name": "",
        "project": "",
        "owner": "someone",
        "state": "finished" if result else "running",
        "result": result,
        "submitted_at": _TIME,
        "enqueued_at": _TIME,
        "finished_at": _TIME if result else None,
        "promoted_at": None,
        "cancel_reason": "said so" if result == "canceled" else None,
        "max_failed_tasks": None,
        "url": f"http://master.example/job?job_id={job_id}",
        "expected_seconds_left": None,
        "running_attempts": 0 if result else 1,
        "counters": counters,
    }
    assert overrides.keys() <= document.keys(), f"no such keys: {overrides.keys() - document.keys()}"
    return document | overrides


def attempt_document(index: int, attempt: int = 0, *, outcome: str | None = "succeeded", **overrides: Any) -> Document:
    """An attempt object of the API, of the task at this place in the job."""
    document: Document = {
        "task_id": f"{'a' * 40}.{index}",
        "attempt": attempt,
        "description": f"test {index}",
        "state": "finished" if outcome else "running",
        "outcome": outcome,
        "exit_status": {"succeeded": 0, "failed": 1}.get(outcome or ""),
        "status": None,
        "duration_seconds": 1.5 if outcome else None,
        "slave_id": "slave-1",
        "queued_at": _TIME,
        "started_at": _TIME,
        "finished_at": _TIME if outcome else None,
        "message": None,
        "logs_lost": False,
        "stdout_url": None,
        "stderr_url": None,
        "artifacts_url": None,
    }
    assert overrides.keys() <= document.keys(), f"no such keys: {overrides.keys() - document.keys()}"
    return document | overrides


def log_document(
    data: bytes, index: int = 0, *, offset: int = 0, outcome: str | None = None, **overrides: Any
) -> Document:
    """A piece of a log of the API, in base64: of what runs, or of the end of what has an outcome."""
    document: Document = {
        "task_id": f"{'a' * 40}.{index}",
        "attempt": 0,
        "latest_attempt": 0,
        "run": 1,
        "state": "finished" if outcome else "running",
        "outcome": outcome,
        "message": None,
        "stream": "stdout",
        "offset": offset,
        "next_offset": offset + len(data),
        "left_out_bytes": 0,
        "is_final": outcome is not None,
        "is_stored": outcome == "failed",
        "encoding": "base64",
        "data": base64.b64encode(data).decode(),
    }
    assert overrides.keys() <= document.keys(), f"no such keys: {overrides.keys() - document.keys()}"
    return document | overrides


class FakeMaster:
    """Listens on a free loopback port. What it does is set by assigning to its attributes, before or in the middle.

    jobs: by id, what the following looks at the job show; the last one stays. attempts: by job id.
    accounts: names and passwords; when there are any, POST needs HTTP Digest. next_answers: given before anything
    else is looked at, whatever the request. files: what is under `/results/`, where presigned links lead.
    on_submit: what looks at a job just submitted show. logs: by task id or place, and stream, what looks at it show.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, deque[Document]] = {}
        self.attempts: dict[str, list[Document]] = {}
        self.logs: dict[tuple[str, str], deque[Document]] = {}
        self.submitted: dict[str, Job] = {}
        self.accounts: dict[str, str] = {}
        self.next_answers: deque[Answer] = deque()
        self.files: dict[str, Answer] = {}
        self.requests: list[Request] = []
        self.violations: list[str] = []
        self.stale_nonces = 0
        self.on_submit: Callable[[Job], list[Document]] = _ends_at_once
        self._nonces = {secrets.token_hex(8)}
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; after a stop, on the same port."""
        # HTTP/1.0: no connection outlives its answer, so that stop() stops everything.
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def add_job(self, job_id: str, *looks: Document) -> None:
        """Have a job; each look at it shows the next of these."""
        self.jobs[job_id] = deque(looks or [job_document(job_id)])

    def add_file(self, name: str, content: bytes = b"", **answer: Any) -> str:
        """Have a file in the result store, and give the link to it."""
        self.files[name] = Answer(body=content, **answer)
        return f"{self.url}/results/{name}?signature=secret"

    def paths(self, method: str = "GET") -> list[str]:
        """The paths that were asked for."""
        return [request.path for request in self.requests if request.method == method]

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            if request.path.startswith("/results/"):
                return self._result(request)
            if self.next_answers:
                return self.next_answers.popleft()
            if request.method == "POST" and self.accounts and (challenge := self._challenge(request)):
                return challenge
            return self._route(request)

    def _result(self, request: Request) -> Answer:
        if "Authorization" in request.headers:
            return self._violation("credentials were sent to the result store")
        return self.files.get(request.path.removeprefix("/results/"), Answer(status=404))

    def _route(self, request: Request) -> Answer:
        match [request.method, *map(unquote, request.path.strip("/").split("/"))]:
            case ["POST", "api", "v1", "jobs"]:
                return self._submit(request)
            case ["GET", "api", "v1", "jobs"]:
                return self._list_jobs(request)
            case ["GET", "api", "v1", "jobs", job_id]:
                return json_answer(self._look(job_id)) if job_id in self.jobs else _no_job(job_id)
            case ["POST", "api", "v1", "jobs", job_id, "cancel"]:
                return self._cancel(job_id, request) if job_id in self.jobs else _no_job(job_id)
            case ["POST", "api", "v1", "jobs", job_id, "rerun"]:
                return self._rerun(job_id, request) if job_id in self.jobs else _no_job(job_id)
            case ["GET", "api", "v1", "jobs", job_id, "attempts"]:
                return self._list_attempts(job_id, request) if job_id in self.jobs else _no_job(job_id)
            case ["GET", "api", "v1", "jobs", job_id, "tasks", task, "log"]:
                return self._log(job_id, task, request) if job_id in self.jobs else _no_job(job_id)
        return self._violation(f"{request.method} {request.path} is not in the API")

    def _log(self, job_id: str, task: str, request: Request) -> Answer:
        if not request.query.keys() <= _QUERIES["log"]:
            return self._violation(f"a log was asked for with {dict(request.query)}")
        looks = self.logs.get((task, request.query.get("stream", "stdout")))
        if looks is None:
            return error_answer(404, "not_found", f"job {job_id} has no task {task}")
        return json_answer(looks.popleft() if len(looks) > 1 else looks[0])

    def _look(self, job_id: str) -> Document:
        looks = self.jobs[job_id]
        return looks.popleft() if len(looks) > 1 else looks[0]

    def _submit(self, request: Request) -> Answer:
        document = self._body(request)
        if document is None:
            return self._violation("the body of a submit is not JSON")
        try:
            job = parse_job(document)
        except InvalidJob as exc:
            return error_answer(400, "invalid_job", str(exc))
        known = self.submitted.get(job.job_id)
        if known is not None and known.fingerprint != job.fingerprint:
            return error_answer(409, "conflict", f"job {job.job_id} is there already, with other tasks")
        if known is None:
            self.submitted[job.job_id] = job
            self.add_job(job.job_id, *self.on_submit(job))
        return json_answer(self.jobs[job.job_id][0], 201 if known is None else 200)

    def _cancel(self, job_id: str, request: Request) -> Answer:
        document = self._body(request)
        if document is None or not document.keys() <= {"reason"}:
            return self._violation(f"the body of a cancel is {request.body[:100]!r}")
        if self.jobs[job_id][0]["state"] == "finished":
            return error_answer(409, "job_not_running", f"job {job_id} has ended already")
        reason = document.get("reason") or "canceled by a client"
        self.add_job(job_id, job_document(job_id, result="canceled", canceled_tasks=1, cancel_reason=reason))
        return json_answer(self.jobs[job_id][0])

    def _rerun(self, job_id: str, request: Request) -> Answer:
        if self._body(request) != {}:
            return self._violation(f"the body of a rerun is {request.body[:100]!r}")
        job = self.jobs[job_id][0]
        if job["state"] != "finished" or not job["counters"]["failed_tasks"]:
            return error_answer(409, "job_not_rerun", f"job {job_id} has nothing to run again")
        again = rerun_id(job_id)
        is_new = again not in self.jobs
        if is_new:
            self.add_job(again)
        return json_answer(self.jobs[again][0], 201 if is_new else 200)

    def _list_jobs(self, request: Request) -> Answer:
        if not request.query.keys() <= _QUERIES["jobs"]:
            return self._violation(f"jobs were asked for with {dict(request.query)}")
        documents = [looks[0] for looks in reversed(self.jobs.values())]
        return self._page("jobs", documents, request.query.get("before"), int(request.query.get("limit", 50)))

    def _list_attempts(self, job_id: str, request: Request) -> Answer:
        query = request.query
        if not query.keys() <= _QUERIES["attempts"] or query.get("state", "failed") not in _STATES:
            return self._violation(f"attempts were asked for with {dict(query)}")
        everything = self.attempts.get(job_id, [])
        found = [item for item in everything if _is_in(query.get("state"), item, everything)]
        found = [item for item in found if query.get("q", "") in item["description"]]
        return self._page("attempts", found, query.get("after"), int(query.get("limit", 1000)))

    def _page(self, key: str, items: list[Document], cursor: str | None, limit: int) -> Answer:
        start = int(cursor or 0)
        end = start + limit
        return json_answer({key: items[start:end], "next": str(end) if end < len(items) else None})

    def _challenge(self, request: Request) -> Answer | None:
        """401 unless the request proves its account with a nonce of ours (RFC 7616, qop auth, MD5)."""
        scheme, _, parameters = request.headers.get("Authorization", "").partition(" ")
        given = parse_keqv_list(parse_http_list(parameters)) if scheme == "Digest" else {}
        known = given.get("nonce") in self._nonces
        if known and self.stale_nonces:
            self.stale_nonces -= 1
            self._nonces.clear()
        elif known and given.get("response") == _digest_response(request, given, self.accounts):
            return None
        return self._unauthorized(is_stale=known and not self._nonces)

    def _unauthorized(self, *, is_stale: bool) -> Answer:
        nonce = secrets.token_hex(8)
        self._nonces.add(nonce)
        challenge = f'Digest realm="{REALM}",nonce="{nonce}",algorithm="MD5",qop="auth"'
        challenge += ",stale=true" if is_stale else ""
        return error_answer(401, "unauthorized", "credentials are needed", **{"WWW-Authenticate": challenge})

    def _body(self, request: Request) -> Document | None:
        if request.headers.get_content_type() != "application/json":
            return None
        try:
            document = json.loads(request.body)
        except ValueError:
            return None
        return document if isinstance(document, dict) else None

    def _violation(self, what: str) -> Answer:
        self.violations.append(what)
        return error_answer(400, "invalid_request", what)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the 5 of the library, eight clients at once wait a second for TCP to try again


def _handler(master: FakeMaster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply()

        def do_POST(self) -> None:
            self._reply()

        def _reply(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query, strict_parsing=bool(url.query)).items()}
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = master.answer(
                Request(method=self.command, path=url.path, query=query, headers=self.headers, body=body)
            )
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.cut_bytes])

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the test's own output is the one to read."""

    return Handler


def _digest_response(request: Request, given: Mapping[str, str], accounts: Mapping[str, str]) -> str | None:
    user = given.get("username", "")
    if user not in accounts or given.get("uri", "").partition("?")[0] != request.path:
        return None
    secret = _md5(f"{user}:{REALM}:{accounts[user]}")
    asked = _md5(f"{request.method}:{given['uri']}")
    return _md5(f"{secret}:{given['nonce']}:{given.get('nc')}:{given.get('cnonce')}:auth:{asked}")


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _ends_at_once(job: Job) -> list[Document]:
    return [job_document(job.job_id, result="succeeded", total_tasks=len(job.tasks))]


def _no_job(job_id: str) -> Answer:
    return error_answer(404, "not_found", f"no job has the id {job_id}")


def _is_in(state: str | None, attempt: Document, everything: list[Document]) -> bool:
    outcome = attempt["outcome"]
    if state == "failed":
        return outcome not in (None, "succeeded")
    if state == "flaky":
        # All of a flaky task's attempts, the one that succeeded included.
        ends = {item["outcome"] for item in everything if item["task_id"] == attempt["task_id"]}
        return "succeeded" in ends and len(ends) > 1
    return state is None or state in (attempt["state"], outcome)
