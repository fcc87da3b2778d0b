"""What the command line relies on, asked of the real master and of the fake that its tests have: both must agree."""

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest
import requests
from requests.auth import HTTPDigestAuth
from werkzeug.serving import BaseWSGIServer, make_server

from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from tests.fakes.master import FakeMaster, attempt_document
from tests.fakes.master import job_document as fake_job_document

from .conftest import PASSWORD, USER, Hand, MakeApp, job_document

Document = dict[str, Any]
JOBS = "/api/v1/jobs"
SECONDS = 20


class Subject(Protocol):
    """A master that is asked, and a way to have the attempts of its only job end."""

    @property
    def url(self) -> str: ...

    def end(self, *outcomes: Outcome) -> None:
        """End the job's attempts, task by task; a failed one with retries left is followed by its retry."""


class Fake:
    """The fake, told what a job looks like once its attempts have ended."""

    def __init__(self, master: FakeMaster) -> None:
        self._master = master

    @property
    def url(self) -> str:
        return self._master.url

    def end(self, *outcomes: Outcome) -> None:
        ((job_id, job),) = self._master.submitted.items()
        left = iter(outcomes)
        ends: list[tuple[int, int, Outcome]] = []
        for index, task in enumerate(job.tasks):
            ends.append((index, 0, next(left)))
            if ends[-1][2] is Outcome.FAILED and task.max_retries:
                ends.append((index, 1, next(left)))
        self._master.attempts[job_id] = [
            attempt_document(index, attempt, outcome=outcome.value, description=job.tasks[index].description)
            for index, attempt, outcome in ends
        ]
        last = {index: outcome for index, _, outcome in ends}
        failures = sum(outcome is not Outcome.SUCCEEDED for outcome in last.values())
        counters = {"total_tasks": len(last), "finished_tasks": len(last), "failed_tasks": failures}
        self._master.add_job(
            job_id, fake_job_document(job_id, result="failed" if failures else "succeeded", **counters)
        )


class Real:
    """The real application, and a slave that works by hand."""

    def __init__(self, server: BaseWSGIServer, hand: Hand, service: Service) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self._hand = hand
        self._service = service

    def end(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            entry, claim = self._hand.run(outcome, exit_status=int(outcome is Outcome.FAILED), duration_seconds=1.5)
            self._service.retry(entry.job_id, entry.task_id, entry.key.attempt, claim.number)


MakeSubject = Callable[[bool], Subject]


@pytest.fixture
def make_fake() -> Iterator[MakeSubject]:
    fake = FakeMaster()
    fake.on_submit = lambda job: [fake_job_document(job.job_id, total_tasks=len(job.tasks))]

    def make(is_closed: bool) -> Subject:
        fake.accounts = {USER: PASSWORD} if is_closed else {}
        fake.start()
        return Fake(fake)

    yield make
    fake.stop()


@pytest.fixture
def make_real(make_app: MakeApp, hand: Hand, service: Service) -> Iterator[MakeSubject]:
    servers: list[BaseWSGIServer] = []

    def make(is_closed: bool) -> Subject:
        app = make_app(allowed_ip_ranges=()) if is_closed else make_app()
        server = make_server("127.0.0.1", 0, app, threaded=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return Real(server, hand, service)

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["fake", "real"])
def make_subject(request: pytest.FixtureRequest) -> MakeSubject:
    made: MakeSubject = request.getfixturevalue(f"make_{request.param}")
    return made


@pytest.fixture
def subject(make_subject: MakeSubject) -> Subject:
    return make_subject(False)


def ask(subject: Subject, method: str, path: str, *, status: int = 200, **options: Any) -> Document:
    """The JSON of an answer that must have this status."""
    with requests.Session() as session:
        session.trust_env = False
        answer = session.request(method, subject.url + path, timeout=SECONDS, **options)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    document: Document = answer.json()
    return document


def submit(subject: Subject, *descriptions: str, status: int = 201, **fields: Any) -> Document:
    return ask(subject, "POST", JOBS, status=status, json=job_document(*descriptions, **fields))


def refusal(subject: Subject, method: str, path: str, status: int, **options: Any) -> str:
    """The code of a refusal, which must have a message for people."""
    error = ask(subject, method, path, status=status, **options)["error"]
    assert error.keys() == {"code", "message"}
    assert error["message"]
    return str(error["code"])


def test_a_submit_is_answered_201_once_and_then_200(subject: Subject) -> None:
    first = submit(subject, "a", "b")
    again = submit(subject, "a", "b", status=200)

    assert [document["job_id"] for document in (first, again)] == ["job", "job"]
    assert first["counters"]["total_tasks"] == 2


def test_what_cannot_be_submitted_is_refused_by_the_same_codes(subject: Subject) -> None:
    submit(subject, "a")

    assert refusal(subject, "POST", JOBS, 409, json=job_document("other")) == "conflict"
    assert refusal(subject, "POST", JOBS, 400, json=job_document("a") | {"tasks": []}) == "invalid_job"
    assert refusal(subject, "POST", JOBS, 400, data="no JSON") == "invalid_request"


def test_a_job_that_is_not_there_is_not_found(subject: Subject) -> None:
    assert refusal(subject, "GET", f"{JOBS}/other", 404) == "not_found"
    assert refusal(subject, "GET", f"{JOBS}/other/attempts", 404) == "not_found"
    assert refusal(subject, "POST", f"{JOBS}/other/cancel", 404, json={}) == "not_found"


def test_a_canceled_job_is_finished_and_says_why(subject: Subject) -> None:
    submit(subject, "a")

    canceled = ask(subject, "POST", f"{JOBS}/job/cancel", json={"reason": "no time"})

    assert (canceled["state"], canceled["result"], canceled["cancel_reason"]) == ("finished", "canceled", "no time")
    assert canceled["counters"]["canceled_tasks"] == 1
    assert ask(subject, "GET", f"{JOBS}/job")["result"] == "canceled"
    assert refusal(subject, "POST", f"{JOBS}/job/cancel", 409, json={}) == "job_not_running"


def test_a_job_that_did_not_succeed_is_run_again_once(subject: Subject) -> None:
    submit(subject, "a")
    assert refusal(subject, "POST", f"{JOBS}/job/rerun", 409, json={}) == "job_not_rerun"
    assert refusal(subject, "POST", f"{JOBS}/other/rerun", 404, json={}) == "not_found"
    ask(subject, "POST", f"{JOBS}/job/cancel", json={})

    first = ask(subject, "POST", f"{JOBS}/job/rerun", status=201, json={})
    again = ask(subject, "POST", f"{JOBS}/job/rerun", json={})

    assert [document["job_id"] for document in (first, again)] == ["job.rerun-1", "job.rerun-1"]
    assert refusal(subject, "POST", f"{JOBS}/job/rerun", 400, json={"why": "x"}) == "invalid_request"


def test_a_cancel_without_a_reason_gets_one(subject: Subject) -> None:
    submit(subject, "a")

    assert ask(subject, "POST", f"{JOBS}/job/cancel", json={})["cancel_reason"].startswith("canceled by ")


def test_a_cancel_with_an_unknown_key_is_refused(subject: Subject) -> None:
    submit(subject, "a")

    assert refusal(subject, "POST", f"{JOBS}/job/cancel", 400, json={"why": "x"}) == "invalid_request"


def test_jobs_come_newest_first_a_page_at_a_time(subject: Subject) -> None:
    for job_id in ("one", "two", "three"):
        submit(subject, "a", job_id=job_id)

    first = ask(subject, "GET", JOBS, params={"limit": 2})
    second = ask(subject, "GET", JOBS, params={"limit": 2, "before": first["next"]})

    assert [job["job_id"] for job in first["jobs"]] == ["three", "two"]
    assert isinstance(first["next"], str)
    assert [job["job_id"] for job in second["jobs"]] == ["one"]
    assert second["next"] is None


def test_attempts_come_by_task_and_number_a_page_at_a_time(subject: Subject) -> None:
    submit(subject, "a", "b", max_retries=1)
    subject.end(Outcome.FAILED, Outcome.SUCCEEDED, Outcome.SUCCEEDED)

    first = ask(subject, "GET", f"{JOBS}/job/attempts", params={"limit": 2})
    second = ask(subject, "GET", f"{JOBS}/job/attempts", params={"limit": 2, "after": first["next"]})

    found = [(item["description"], item["attempt"]) for item in (*first["attempts"], *second["attempts"])]
    assert found == [("a", 0), ("a", 1), ("b", 0)]
    assert isinstance(first["next"], str)
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "failed"}, ["a", "c"]),
        ({"state": "flaky"}, ["a", "a"]),
        ({"state": "succeeded"}, ["a", "b"]),
        ({"state": "timed_out"}, ["c"]),
        ({"state": "finished"}, ["a", "a", "b", "c"]),
        ({"state": "running"}, []),
        ({"q": "b"}, ["b"]),
        ({}, ["a", "a", "b", "c"]),
    ],
    ids=str,
)
def test_attempts_are_filtered(subject: Subject, query: Mapping[str, str], expected: list[str]) -> None:
    job = job_document("a", "b", "c")
    job["tasks"][0]["max_retries"] = 1
    ask(subject, "POST", JOBS, status=201, json=job)
    subject.end(Outcome.FAILED, Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.TIMED_OUT)

    found = ask(subject, "GET", f"{JOBS}/job/attempts", params=query)["attempts"]

    assert [attempt["description"] for attempt in found] == expected


def test_an_unknown_state_of_attempts_is_refused(subject: Subject) -> None:
    submit(subject, "a")

    assert refusal(subject, "GET", f"{JOBS}/job/attempts?state=odd", 400) == "invalid_request"


def test_who_changes_something_must_prove_an_account_and_who_looks_need_not(make_subject: MakeSubject) -> None:
    subject = make_subject(True)

    assert refusal(subject, "POST", JOBS, 401, json=job_document("a")) == "unauthorized"
    wrong = HTTPDigestAuth(USER, "wrong")
    assert refusal(subject, "POST", JOBS, 401, json=job_document("a"), auth=wrong) == "unauthorized"
    assert submit_as(subject, HTTPDigestAuth(USER, PASSWORD))["job_id"] == "job"
    assert len(ask(subject, "GET", JOBS)["jobs"]) == 1


def submit_as(subject: Subject, auth: HTTPDigestAuth) -> Document:
    return ask(subject, "POST", JOBS, status=201, json=job_document("a"), auth=auth)


def test_the_fakes_jobs_and_attempts_have_the_shape_of_real_ones(
    make_fake: MakeSubject, make_real: MakeSubject
) -> None:
    looks = [_look_at_a_finished_job(make(False)) for make in (make_fake, make_real)]

    assert looks[0] == looks[1]


def _look_at_a_finished_job(subject: Subject) -> list[Any]:
    submit(subject, "a")
    subject.end(Outcome.FAILED)
    job = ask(subject, "GET", f"{JOBS}/job")
    (attempt,) = ask(subject, "GET", f"{JOBS}/job/attempts")["attempts"]
    return [_shape(job), _shape(job["counters"]), _shape(attempt)]


def _shape(document: Document) -> dict[str, str]:
    """The kind of each value; numbers are numbers, and what may be None says only that it is there."""
    optional = {"message", "status", "slave_id", "expected_seconds_left", "max_failed_tasks", "cancel_reason"}
    kinds = {name: type(value).__name__ for name, value in document.items()}
    return {name: "optional" if name in optional else kind for name, kind in kinds.items()}
