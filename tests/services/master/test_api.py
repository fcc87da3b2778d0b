"""The strict JSON API."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dist_test.model.outcome import Outcome
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue
from dist_test.storage.slaves import SlaveDescription, Slaves

from .conftest import HASH, Hand, MakeApp, job_document

JOBS = "/api/v1/jobs"


def body(response: TestResponse, status: int = 200) -> dict[str, Any]:
    """The JSON object of an answer with this status."""
    assert response.status_code == status, response.text
    assert isinstance(response.json, dict)
    return response.json


def error(response: TestResponse, status: int) -> dict[str, str]:
    """The error of an answer with this status."""
    found = body(response, status)["error"]
    assert sorted(found) == ["code", "message"]
    return dict(found)


def submit(client: FlaskClient, *descriptions: str, **fields: Any) -> dict[str, Any]:
    """Submit a job that is new."""
    return body(client.post(JOBS, json=job_document(*descriptions, **fields)), 201)


def test_a_submitted_job_is_described_whole(client: FlaskClient) -> None:
    document = submit(client, "a", "b", job_id="a+b", name="demo", owner="bob", max_failed_tasks=3)

    assert document["state"] == "running"
    assert document["result"] is None
    assert (document["name"], document["project"], document["owner"]) == ("demo", "demo", "bob")
    assert document["max_failed_tasks"] == 3
    assert document["url"] == "http://localhost/job?job_id=a%2Bb"
    assert document["submitted_at"].endswith("Z")
    assert document["finished_at"] is None
    assert document["counters"]["total_tasks"] == 2
    assert document["counters"]["failed_attempts"] == 0
    assert document["running_attempts"] == 0
    assert document["expected_seconds_left"] is None
    assert body(client.get(f"{JOBS}/a+b")) == document


def test_the_same_job_again_is_a_success_that_changes_nothing(client: FlaskClient, queue: Queue) -> None:
    first = submit(client, "a")

    again = body(client.post(JOBS, json=job_document("a")), 200)

    assert again == first
    assert queue.statistics().ready == 1


def test_another_job_of_the_same_id_is_a_conflict(client: FlaskClient) -> None:
    submit(client, "a")

    assert error(client.post(JOBS, json=job_document("b")), 409)["code"] == "conflict"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param({"json": {"job_id": "a"}}, "invalid_job", id="no tasks"),
        pytest.param({"json": job_document("a", color="red")}, "invalid_job", id="unknown key"),
        pytest.param({"json": []}, "invalid_job", id="a list"),
        pytest.param({"data": "{", "content_type": "application/json"}, "invalid_request", id="no JSON"),
        pytest.param({"data": b"\xff", "content_type": "application/json"}, "invalid_request", id="no text"),
        pytest.param({"data": "[" * 100_000, "content_type": "application/json"}, "invalid_request", id="deep"),
        pytest.param({"data": "9" * 10_000, "content_type": "application/json"}, "invalid_request", id="long number"),
        pytest.param({"data": "", "content_type": "application/json"}, "invalid_request", id="empty"),
        pytest.param({"data": '{"job_id": "a"}', "content_type": "text/plain"}, "invalid_request", id="as text"),
        pytest.param({"data": {"job_id": "a"}}, "invalid_request", id="a form"),
    ],
)
def test_what_is_no_job_is_refused_and_nothing_is_stored(client: FlaskClient, sent: dict[str, Any], code: str) -> None:
    assert error(client.post(JOBS, **sent), 400)["code"] == code
    assert body(client.get(JOBS))["jobs"] == []


def test_an_entry_that_is_too_big_for_the_queue_is_refused_with_its_path(client: FlaskClient, queue: Queue) -> None:
    document = job_document("a", "b")
    variables = queue.max_body_bytes() // 30_000 + 1
    document["tasks"][1]["env"] = {f"V{number}": "x" * 30_000 for number in range(variables)}

    refused = error(client.post(JOBS, json=document), 400)

    assert refused["code"] == "invalid_job"
    assert refused["message"].startswith("tasks[1] ")


def test_a_body_over_the_limit_is_refused(make_app: MakeApp) -> None:
    client = make_app(max_body_bytes=1000).test_client()

    refused = error(client.post(JOBS, json=job_document("x" * 2000)), 413)

    assert refused["code"] == "too_large"
    assert "max_body_bytes" in refused["message"]


@pytest.mark.parametrize("path", [f"{JOBS}/x", f"{JOBS}/x/attempts", f"{JOBS}/%00", "/api/v1/nonsense", f"{JOBS}/"])
def test_what_is_not_there_is_not_found(client: FlaskClient, path: str) -> None:
    assert error(client.get(path), 404)["code"] == "not_found"


def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient) -> None:
    answer = client.delete(f"{JOBS}/x")

    assert error(answer, 405)["code"] == "method_not_allowed"
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(("path", "known"), [(JOBS, "GET, POST"), (f"{JOBS}/x/cancel", "POST")])
def test_the_methods_of_a_path_are_told_whichever_view_is_asked(client: FlaskClient, path: str, known: str) -> None:
    answer = client.options(path)

    assert error(answer, 405)["code"] == "method_not_allowed"
    assert answer.headers["Allow"] == known


def test_jobs_are_paged_newest_first(client: FlaskClient) -> None:
    for number in range(5):
        submit(client, "a", job_id=f"job-{number}")

    first = body(client.get(JOBS, query_string={"limit": 2}))
    second = body(client.get(JOBS, query_string={"limit": 2, "before": first["next"]}))
    third = body(client.get(JOBS, query_string={"limit": 2, "before": second["next"]}))

    pages = [[job["job_id"] for job in page["jobs"]] for page in (first, second, third)]
    assert pages == [["job-4", "job-3"], ["job-2", "job-1"], ["job-0"]]
    assert third["next"] is None


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", "limit=x", "limit=100000", "limit=", "limit=0001", "before=x", "before=-1", "limit=\u0663"],
)
def test_a_bad_page_of_jobs_is_refused(client: FlaskClient, query: str) -> None:
    assert error(client.get(f"{JOBS}?{query}"), 400)["code"] == "invalid_request"


def test_a_canceled_job_says_why(client: FlaskClient, queue: Queue) -> None:
    submit(client, "a", "b")

    document = body(client.post(f"{JOBS}/job/cancel", json={"reason": "wrong branch"}))

    assert (document["state"], document["result"]) == ("finished", "canceled")
    assert document["cancel_reason"] == "wrong branch"
    assert queue.statistics().waiting_or_held == 0


def test_a_cancel_needs_no_body(client: FlaskClient) -> None:
    submit(client, "a")

    assert body(client.post(f"{JOBS}/job/cancel"))["cancel_reason"] == "canceled by 127.0.0.1"


def test_what_has_ended_or_never_was_is_not_canceled(client: FlaskClient) -> None:
    submit(client, "a")
    client.post(f"{JOBS}/job/cancel")

    assert error(client.post(f"{JOBS}/job/cancel"), 409)["code"] == "job_not_running"
    assert error(client.post(f"{JOBS}/other/cancel"), 404)["code"] == "not_found"


@pytest.mark.parametrize(
    "sent",
    [[], {"reason": 3}, {"reason": "x" * 501}, {"reason": "\ud800"}, {"reason": "a\u202eb"}, {"color": "red"}, "x"],
)
def test_a_malformed_cancel_is_refused(client: FlaskClient, sent: Any) -> None:
    submit(client, "a")

    assert error(client.post(f"{JOBS}/job/cancel", json=sent), 400)["code"] == "invalid_request"
    assert body(client.get(f"{JOBS}/job"))["state"] == "running"


def test_attempts_are_paged_by_task_and_attempt(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a", "b", "c", max_retries=1)
    hand.run(Outcome.FAILED, exit_status=3)

    found: list[tuple[str, int]] = []
    query = {"limit": "1"}
    while True:
        page = body(client.get(f"{JOBS}/job/attempts", query_string=query))
        found += [(attempt["description"], attempt["attempt"]) for attempt in page["attempts"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]

    assert found == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]


def test_an_attempt_is_described_whole(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a")
    hand.run(Outcome.FAILED, exit_status=-9, duration_seconds=1.5, message="killed", stdout_bytes=5)

    (attempt,) = body(client.get(f"{JOBS}/job/attempts"))["attempts"]

    assert attempt["task_id"] == f"{HASH}.0"
    assert (attempt["state"], attempt["outcome"]) == ("finished", "failed")
    # On the original's wire -9 is a timeout.
    assert (attempt["exit_status"], attempt["status"]) == (-9, 137)
    assert (attempt["duration_seconds"], attempt["slave_id"], attempt["message"]) == (1.5, "slave-1", "killed")
    assert attempt["logs_lost"] is False
    assert f"job/{HASH}.0/0/1/stdout" in attempt["stdout_url"]
    assert (attempt["stderr_url"], attempt["artifacts_url"]) == (None, None)
    assert attempt["started_at"] <= attempt["finished_at"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("state=queued", ["c"], id="queued"),
        pytest.param("state=running", ["b"], id="running"),
        pytest.param("state=finished", ["a"], id="finished"),
        pytest.param("state=failed", ["a"], id="failed"),
        pytest.param("state=succeeded", [], id="succeeded"),
        pytest.param("q=c", ["c"], id="by description"),
        pytest.param("q=slave-1", ["a", "b"], id="by slave"),
        pytest.param("q=%25", [], id="a sign that SQL knows"),
        pytest.param("state=", ["a", "b", "c"], id="any"),
    ],
)
def test_attempts_are_filtered_and_searched(client: FlaskClient, hand: Hand, query: str, expected: list[str]) -> None:
    submit(client, "a", "b", "c")
    hand.run(Outcome.FAILED, exit_status=1)
    hand.take()

    found = body(client.get(f"{JOBS}/job/attempts?{query}"))["attempts"]

    assert [attempt["description"] for attempt in found] == expected


@pytest.mark.parametrize(
    "query",
    [
        "state=nonsense",
        "after=1",
        "after=1.x",
        "after=1.2.3",
        "after=\u0661.0",
        "limit=0",
        "limit=5001",
        "q=" + "x" * 201,
    ],
)
def test_a_bad_page_of_attempts_is_refused(client: FlaskClient, query: str) -> None:
    submit(client, "a")

    assert error(client.get(f"{JOBS}/job/attempts?{query}"), 400)["code"] == "invalid_request"


def test_a_running_job_tells_what_runs_and_how_long_it_may_take(
    client: FlaskClient, hand: Hand, slave_database: Database
) -> None:
    Slaves(slave_database).register(
        SlaveDescription(slave_id="s", instance_id="i", zone="z", mig="m", template="t", slots=2, version="1")
    )
    submit(client, "a", "b")
    hand.take()

    document = body(client.get(f"{JOBS}/job"))

    assert document["running_attempts"] == 1
    assert document["expected_seconds_left"] == 30.0  # two unknown tests of 30 s each, on two slots


def test_slaves_are_described_whole(client: FlaskClient, slave_database: Database) -> None:
    Slaves(slave_database).register(
        SlaveDescription(slave_id="s", instance_id="i", zone="z", mig="m", template="t", slots=2, version="1")
    )

    (slave,) = body(client.get("/api/v1/slaves"))["slaves"]

    assert (slave["slave_id"], slave["slots"], slave["busy"], slave["is_live"]) == ("s", 2, 0, True)
    assert 0 <= slave["silent_seconds"] < 60
    assert slave["heartbeat"].endswith("Z")
