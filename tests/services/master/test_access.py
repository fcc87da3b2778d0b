"""Who may change something: every way in, and every way around that we know of."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from dist_test.master.auth import NONCE_LIFE, Guard
from dist_test.settings import MasterSettings
from dist_test.settings.values import networks
from dist_test.storage.database import Database
from dist_test.storage.nonces import Nonces

from .conftest import STRANGER, USER, Challenge, MakeApp, digest_header, job_document, job_form

CANCEL = "/cancel_job?job_id=job"

# What anybody may ask, as "endpoint": a new view is closed until it is named here and marked.
OPEN = {
    "api.jobs",
    "api.job",
    "api.attempts",
    "api.log",
    "api.audit",
    "api.slaves",
    "original.job_status",
    "original.tasks",
    "original.failed_tasks",
    "original.view_log",
    "openapi.served",
    "openapi.page",
    "operations.stats",
    "operations.healthz",
    "operations.metrics",
    "web.home",
    "web.slave",
    "web.job",
    "web.audit",
    "web.task",
    "web.log",
    "web.log_piece",
    "web.raw_log",
    "web.artifacts",
    "web.artifact",
    "web.confirm_cancel",
    "web.download",
    "web.trace",
    "web.trace_events",
    "web.trace_attempts",
    "web.tests",
    "web.test",
    "web.flaky",
    "static",
}
CLOSED = {
    "api.submit",
    "api.cancel",
    "api.rerun",
    "original.submit_job",
    "original.cancel_job",
    "original.retry_task",
    "web.cancel",
    "web.rerun",
}


def closed_requests(app: Flask) -> Iterator[tuple[str, str]]:
    """Method and path of every way to change something."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint not in OPEN:
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                yield method, rule.rule.replace("<job_id>", "job")


def challenge_of(response: TestResponse) -> Challenge:
    """The challenge of a 401."""
    assert response.status_code == 401, response.text
    return Challenge.of(response.headers["WWW-Authenticate"])


def test_every_view_is_known_to_be_open_or_closed(app: Flask) -> None:
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == OPEN | CLOSED


def test_nothing_can_be_changed_without_an_account(app: Flask, stranger: FlaskClient) -> None:
    answers = {(method, path): stranger.open(path, method=method) for method, path in closed_requests(app)}

    assert len(answers) >= 8
    for (method, _), answer in answers.items():
        assert answer.status_code == (405 if method == "HEAD" else 401)
        if answer.status_code == 401:
            challenge_of(answer)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Sec-Fetch-Site": "cross-site"}, id="another site"),
        pytest.param({"Sec-Fetch-Site": "same-site"}, id="a neighbour"),
        pytest.param({"Origin": "http://evil.example.com"}, id="another origin"),
        pytest.param({"Origin": "null"}, id="a hidden origin"),
    ],
)
def test_no_page_of_another_site_changes_anything_from_an_allowed_address(
    app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    for method, path in closed_requests(app):
        if method != "HEAD":
            assert client.open(path, method=method, headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers", [{"Accept": "text/html,*/*"}, {"Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Site": "none"}]
)
def test_a_browsers_get_changes_nothing_without_credentials(
    app: Flask, client: FlaskClient, headers: dict[str, str]
) -> None:
    for method, path in closed_requests(app):
        if method == "GET":
            assert client.open(path, method=method, headers=headers).status_code == 403


def test_a_browsers_get_with_credentials_is_let_through(client: FlaskClient, stranger: FlaskClient) -> None:
    nonce = challenge_of(stranger.get(CANCEL)).nonce
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "none", "Authorization": digest_header("GET", CANCEL, nonce)}

    assert client.get(CANCEL, headers=headers).json == {"status": "SUCCESS"}


def test_our_own_pages_may_post(client: FlaskClient) -> None:
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}

    assert client.post("/cancel_job", data={"job_id": "job"}, headers=headers).json == {"status": "SUCCESS"}


@pytest.mark.parametrize(
    ("address", "ranges", "status"),
    [
        pytest.param("127.0.0.1", None, 200, id="loopback by default"),
        pytest.param("::1", None, 200, id="loopback of IPv6 by default"),
        pytest.param("::ffff:127.0.0.1", None, 200, id="loopback as IPv6"),
        pytest.param(STRANGER, None, 401, id="closed by default"),
        pytest.param("192.0.2.9", "192.0.2.8/29", 200, id="a range"),
        pytest.param("2001:db8::9", "2001:db8::/64", 200, id="a range of IPv6"),
        pytest.param("127.0.0.1", "192.0.2.8/29", 401, id="loopback, not allowed"),
        pytest.param("127.0.0.1", "", 401, id="nobody is allowed"),
    ],
)
def test_an_address_counts_when_it_is_in_an_allowed_range(
    make_app: MakeApp, address: str, ranges: str | None, status: int
) -> None:
    app = make_app() if ranges is None else make_app(allowed_ip_ranges=networks(ranges))

    answer = app.test_client().get(CANCEL, environ_base={"REMOTE_ADDR": address})

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        pytest.param(STRANGER, "127.0.0.1", 401, id="forged"),
        pytest.param("10.0.0.1", "127.0.0.1", 200, id="told by the proxy"),
        pytest.param("10.0.0.1", f"127.0.0.1, {STRANGER}", 401, id="forged through the proxy"),
        pytest.param("10.0.0.1", "127.0.0.1, nonsense", 401, id="nonsense"),
        pytest.param("10.0.0.1", STRANGER, 401, id="the proxy's client is a stranger"),
    ],
)
def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
    make_app: MakeApp, peer: str, forwarded: str, status: int
) -> None:
    app = make_app(trusted_proxies=networks("10.0.0.0/24"))
    headers = {"X-Forwarded-For": forwarded}

    answer = app.test_client().get(CANCEL, headers=headers, environ_base={"REMOTE_ADDR": peer})

    assert answer.status_code == status


def test_an_account_gets_in_from_anywhere_and_owns_what_it_submits(stranger: FlaskClient, client: FlaskClient) -> None:
    path = "/api/v1/jobs"
    nonce = challenge_of(stranger.post(path)).nonce
    headers = {"Authorization": digest_header("POST", path, nonce)}

    answer = stranger.post(path, json=job_document("a", owner="mallory"), headers=headers)

    assert answer.status_code == 201
    assert answer.json is not None
    assert answer.json["owner"] == USER


def test_without_an_account_the_owner_is_whom_the_client_names(client: FlaskClient) -> None:
    answer = client.post("/api/v1/jobs", json=job_document("a", owner="bob"))

    assert answer.json is not None
    assert answer.json["owner"] == "bob"


def test_a_count_may_grow_but_never_repeat(stranger: FlaskClient) -> None:
    nonce = challenge_of(stranger.get(CANCEL)).nonce

    def ask(count: int) -> TestResponse:
        return stranger.get(CANCEL, headers={"Authorization": digest_header("GET", CANCEL, nonce, count=count)})

    assert [ask(count).status_code for count in (1, 2, 5, 5, 3, 6)] == [200, 200, 200, 401, 401, 200]
    # The client has the password: it is asked to repeat, not told that it is wrong.
    assert challenge_of(ask(1)).is_stale


def test_a_request_is_not_replayed_to_another_master(make_app: MakeApp) -> None:
    first, second = (make_app().test_client() for _ in range(2))
    from_afar = {"REMOTE_ADDR": STRANGER}
    nonce = challenge_of(first.get(CANCEL, environ_base=from_afar)).nonce
    headers = {"Authorization": digest_header("GET", CANCEL, nonce)}

    answers = [client.get(CANCEL, headers=headers, environ_base=from_afar) for client in (second, first)]

    assert [answer.status_code for answer in answers] == [200, 401]


@pytest.mark.parametrize(
    ("user", "password"), [(USER, "wrong"), ("nobody", "secret"), (USER, ""), ("", ""), ("änn", "x")]
)
def test_wrong_credentials_are_refused_even_from_an_allowed_address(
    client: FlaskClient, stranger: FlaskClient, user: str, password: str
) -> None:
    nonce = challenge_of(stranger.get(CANCEL)).nonce
    headers = {"Authorization": digest_header("GET", CANCEL, nonce, user=user, password=password)}

    for sender in (client, stranger):
        assert not challenge_of(sender.get(CANCEL, headers=headers)).is_stale


def test_a_signature_of_another_request_is_refused(stranger: FlaskClient) -> None:
    nonce = challenge_of(stranger.get(CANCEL)).nonce
    others = [("GET", "/cancel_job?job_id=other"), ("POST", CANCEL), ("GET", "/job_status?job_id=job")]

    for method, uri in others:
        headers = {"Authorization": digest_header(method, uri, nonce)}
        challenge_of(stranger.get(CANCEL, headers=headers))


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        pytest.param("qop=auth", "qop=auth-int", id="integrity, which we do not check"),
        pytest.param("qop=auth, ", "", id="the old form without a count"),
        pytest.param("nc=00000001", "nc=1", id="short count"),
        pytest.param("nc=00000001", "nc=zzzzzzzz", id="count that is none"),
        pytest.param('cnonce="abc", ', "", id="no nonce of the client"),
        pytest.param('realm="dist_test"', 'realm="other"', id="another realm"),
        pytest.param("algorithm=MD5", "algorithm=MD5-sess", id="another algorithm"),
        pytest.param("Digest ", "Basic ", id="another scheme"),
        pytest.param('response="', 'response="\xe9', id="a response that is not ASCII"),
        pytest.param('nonce="', 'nonce="x', id="a nonce that is not ours"),
    ],
)
def test_credentials_that_are_not_whole_are_refused(stranger: FlaskClient, part: str, instead: str) -> None:
    nonce = challenge_of(stranger.get(CANCEL)).nonce
    header = digest_header("GET", CANCEL, nonce)
    assert part in header

    challenge_of(stranger.get(CANCEL, headers={"Authorization": header.replace(part, instead, 1)}))


@pytest.mark.parametrize("header", ["Digest", "Digest ", "Digest ,,=,", 'Digest username="a', "\xff", "Digest nc"])
def test_garbage_for_credentials_is_refused_and_breaks_nothing(stranger: FlaskClient, header: str) -> None:
    challenge_of(stranger.get(CANCEL, headers={"Authorization": header}))


@pytest.mark.parametrize(
    ("age", "status"),
    [
        pytest.param(timedelta(0), 200, id="fresh"),
        pytest.param(NONCE_LIFE - timedelta(seconds=5), 200, id="almost too old"),
        pytest.param(NONCE_LIFE + timedelta(seconds=5), 401, id="too old"),
        pytest.param(timedelta(seconds=-30), 200, id="by a master whose clock is ahead"),
        pytest.param(timedelta(minutes=-5), 401, id="from the future"),
    ],
)
def test_an_old_nonce_is_stale_not_wrong(
    settings: MasterSettings, master_database: Database, stranger: FlaskClient, age: timedelta, status: int
) -> None:
    nonce = challenge_of(stranger.get(CANCEL)).nonce
    late = Flask("late")
    late.get("/cancel_job", endpoint="cancel")(lambda: "done")
    late_now = time.time() + age.total_seconds()
    Guard(settings, Nonces(master_database, kept_for=NONCE_LIFE), now=lambda: late_now).init_app(late)
    headers = {"Authorization": digest_header("GET", CANCEL, nonce)}

    answer = late.test_client().get(CANCEL, headers=headers, environ_base={"REMOTE_ADDR": STRANGER})

    assert answer.status_code == status
    if status == 401:
        assert challenge_of(answer).is_stale


def test_a_nonce_of_other_accounts_is_not_ours(make_app: MakeApp, stranger: FlaskClient) -> None:
    other = make_app(accounts={USER: "another"}).test_client()
    nonce = challenge_of(other.get(CANCEL, environ_base={"REMOTE_ADDR": STRANGER})).nonce

    challenge_of(stranger.get(CANCEL, headers={"Authorization": digest_header("GET", CANCEL, nonce)}))


def test_reads_are_open_to_all(stranger: FlaskClient) -> None:
    for path in ("/", "/stats", "/healthz", "/metrics", "/api/v1/jobs", "/api/v1/slaves", "/job_status?job_id=x"):
        assert stranger.get(path).status_code == 200


def test_a_challenge_on_the_originals_path_is_json_too(stranger: FlaskClient) -> None:
    answer = stranger.post("/submit_job", data=job_form("a"))

    assert answer.status_code == 401
    assert answer.json is not None
    assert answer.json["status"] == "ERROR"


def test_uses_are_forgotten_when_no_nonce_can_be_that_old(database: Database, master_database: Database) -> None:
    now = 0.0
    nonces = Nonces(master_database, kept_for=timedelta(minutes=15), clock=lambda: now)
    assert nonces.use("old", 1)
    assert nonces.use("young", 1)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE digest_nonces SET seen_at = seen_at - INTERVAL 16 MINUTE WHERE nonce = 'old'"))

    now = 3600.0
    assert nonces.use("another", 1)

    with database.engine.begin() as connection:
        kept = connection.execute(text("SELECT nonce FROM digest_nonces ORDER BY nonce")).scalars().all()
    assert kept == ["another", "young"]


def test_a_nonce_that_cannot_be_stored_is_not_used(database: Database) -> None:
    assert not Nonces(database, kept_for=timedelta(minutes=15)).use("x" * 201, 1)
