"""Requests to a master on real servers: whatever is sent, it answers, and says why it refuses."""

import hashlib
import itertools
import json
from collections.abc import Callable
from urllib.parse import quote_plus

import pytest
from flask import Flask
from hypothesis import strategies as st

from dist_test.master.failures import ORIGINAL_JSON_PATHS
from dist_test.model.outcome import Outcome
from dist_test.settings.values import networks
from dist_test.storage.database import Database
from dist_test.storage.slaves import SlaveDescription, Slaves

from ..services.master.conftest import PASSWORD, STRANGER, USER, Challenge, Hand, MakeApp, job_document
from .conftest import Fuzz
from .mutations import edited_json
from .requests_on_wire import Answer, Wire, requests
from .target import MAX_MESSAGE_CHARACTERS, Target, shape

SLAVE = SlaveDescription(slave_id="slave-1", instance_id="", zone="", mig="", template="", slots=2, version="1")
NAMES = (
    *(
        "job_id",
        "job_json",
        "task_json",
        "task_id",
        "attempt",
        "log",
        "limit",
        "before",
        "after",
        "state",
        "status",
        "q",
    ),
    *("stream", "encoding", "offset", "at", "days", "member", "owner", "page", "project", "save", "since", "slave_id"),
    *("sort", "name", "description", "failed", "outcome", "reason", "inline", "attachment"),
)
JOB = job_document("a", "b", max_retries=1, max_failed_tasks=3)
RETRY = {"job_id": "job", "task_id": "a" * 40 + ".0", "attempt": 0, "claim": 1}
CLOSED_PATH = "/api/v1/jobs/none/cancel"
REFUSALS = {0, 400, 401, 403, 405, 411, 413, 414, 415, 417, 431}


@pytest.fixture
def busy(make_app: MakeApp, hand: Hand, slave_database: Database) -> None:
    """Jobs with attempts of all kinds, so that there is something to ask for."""
    client = make_app().test_client()
    Slaves(slave_database).register(SLAVE)
    client.post("/api/v1/jobs", json=job_document("a", "b", "c", "d", max_retries=1))
    for outcome, exit_status in ((Outcome.FAILED, 3), (Outcome.SUCCEEDED, 0), (Outcome.TIMED_OUT, -9)):
        hand.run(outcome, exit_status=exit_status, duration_seconds=1.5, stdout_bytes=1, artifact_bytes=2, message="x")
    hand.take()
    client.post("/api/v1/jobs", json=job_document("a", job_id="other"))


def form(document: bytes) -> bytes:
    return f"job_id=job&job_json={quote_plus(document)}&task_json={quote_plus(document)}&reason=x".encode()


def bodies() -> st.SearchStrategy[bytes]:
    documents = edited_json([JOB, RETRY, {"reason": "why"}, {}])
    return st.one_of(documents, documents.map(form), st.binary(max_size=50))


def kind_of(path: str, answer: Answer) -> str:
    """What the answer says, once it has proved to be of the form that the path's clients know."""
    assert answer.status < 500, answer.body[:2000]
    message = ""
    if answer.status >= 400 and answer.body:
        message = _message(path, answer)
        assert message
        assert len(message) <= MAX_MESSAGE_CHARACTERS
    return f"{path} {answer.status} {shape(message)}"


def _message(path: str, answer: Answer) -> str:
    if path in ORIGINAL_JSON_PATHS:
        return str(json.loads(answer.body)["error"])
    if path.startswith("/api/"):
        return str(json.loads(answer.body)["error"]["message"])
    return "a page"


def path_of(data: bytes, routes: list[str]) -> str:
    """The beginning of the path that the request is about, as far as it is one of ours."""
    words = data.split(b"\r\n", 1)[0].split()
    path = words[1].split(b"?")[0].decode("latin-1") if len(words) > 1 else ""
    if path in routes or path in ORIGINAL_JSON_PATHS:
        return path
    return "/api/v1" if path.startswith("/api/v1/") else "another"


def routes_of(app: Flask) -> list[str]:
    return sorted({rule.rule for rule in app.url_map.iter_rules()})


@pytest.mark.usefixtures("busy")
def test_a_master_answers_every_request(fuzz: Fuzz, make_app: MakeApp) -> None:
    # Through a proxy, so that what it says of the client is read as well.
    app = make_app(trusted_proxies=networks("127.0.0.0/8"), allowed_ip_ranges=networks("127.0.0.0/8, 10.0.0.0/8"))
    wire, routes = Wire(app), routes_of(app)

    def read(data: bytes) -> str:
        return kind_of(path_of(data, routes), wire.send(data))

    fuzz(Target(name="master", read=read, inputs=requests(routes, NAMES, bodies())))


def credentials(fresh_nonce: Callable[[], str]) -> Callable[[bytes], bytes]:
    """What puts a nonce of the master's, a count and the right response in their places."""
    counts = itertools.count(1)

    def fill(data: bytes) -> bytes:
        nonce, count = fresh_nonce(), f"{next(counts):08x}"
        first, second = _md5(f"{USER}:dist_test:{PASSWORD}"), _md5(f"POST:{CLOSED_PATH}")
        response = _md5(f"{first}:{nonce}:{count}:abc:auth:{second}")
        for name, value in ((b"@NONCE@", nonce), (b"@COUNT@", count), (b"@RESPONSE@", response)):
            data = data.replace(name, value.encode())
        return data

    return fill


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@st.composite
def authorizations(draw: st.DrawFn) -> bytes:
    """Headers with the fields of Digest, some of them wrong, twice or missing."""
    fields = {
        "username": ('"ann"', '""', '"\\"', "ann", '"\u00e9"', "ann\\", '"' + "a" * 3_000 + '"'),
        "realm": ('"dist_test"', '""', "x"),
        "nonce": ('"@NONCE@"', '"x"', '"a.b.c"', '"@NONCE@x"', '".."', '"\u00e9.\u00e9.\u00e9"'),
        "uri": (f'"{CLOSED_PATH}"', '"/"', '"http://x/"', '"%ff"', '"?"', f'"//{CLOSED_PATH}?"', f"{CLOSED_PATH}"),
        "qop": ("auth", '"auth"', "auth-int", '"auth,auth-int"'),
        "nc": ("@COUNT@", "00000000", "ffffffff", "1", "-0000001", "0000000x", "\u0661" * 8),
        "cnonce": ('"abc"', '""', '"\u00e9"'),
        "response": ('"@RESPONSE@"', '"' + "0" * 32 + '"', '"x"', '"\u00e9"'),
        "algorithm": ("MD5", "md5", "SHA-256", "MD5-sess", '""'),
        "opaque": ('"dist_test"', '"x"'),
        "username*": ("UTF-8''ann", "x''%ff", "'"),
        "userhash": ("true",),
    }
    names = draw(st.lists(st.sampled_from(list(fields)), max_size=3)) + draw(st.permutations(list(fields)[:9]))
    wrong = draw(st.sets(st.sampled_from(list(fields)), max_size=2))
    chosen = [f"{name}={draw(st.sampled_from(fields[name])) if name in wrong else fields[name][0]}" for name in names]
    return ("Authorization: Digest " + draw(st.sampled_from((", ", ",", " ", ";"))).join(chosen)).encode(
        "latin-1", "ignore"
    )


def test_a_stranger_gets_in_with_the_password_alone(fuzz: Fuzz, make_app: MakeApp) -> None:
    app = make_app()
    wire, stranger = Wire(app), app.test_client()
    stranger.environ_base["REMOTE_ADDR"] = STRANGER

    def fresh_nonce() -> str:
        return Challenge.of(stranger.post(CLOSED_PATH).headers["WWW-Authenticate"]).nonce

    fill = credentials(fresh_nonce)

    def read(data: bytes) -> str:
        """The input is the headers; the request line is not for them to choose."""
        whole = f"POST {CLOSED_PATH} HTTP/1.1\r\n".encode() + fill(data) + b"\r\nContent-Length: 0\r\n\r\n"
        answer = wire.send(whole, peer=STRANGER)
        assert answer.status in REFUSALS or b"@RESPONSE@" in data, f"a stranger was answered {answer.status}"
        return kind_of("/api/v1", answer)

    fuzz(Target(name="credentials", read=read, inputs=authorizations()))
