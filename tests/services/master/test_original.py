"""The original's paths, as its clients use them."""

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from dist_test.master import original
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import result_key
from dist_test.model.task import QueueEntry
from dist_test.storage.claims import Claim
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue
from dist_test.storage.results import Bucket

from .conftest import HASH, Hand, job_form

Ask = Callable[[FlaskClient, str, dict[str, str]], TestResponse]
SUCCESS = {"status": "SUCCESS"}


def by_get(client: FlaskClient, path: str, values: dict[str, str]) -> TestResponse:
    return client.get(path, query_string=values)


def by_form(client: FlaskClient, path: str, values: dict[str, str]) -> TestResponse:
    return client.post(path, data=values)


both_ways = pytest.mark.parametrize("ask", [by_get, by_form], ids=["GET", "POST"])


def retry_form(entry: QueueEntry, holder: Claim, **changed: Any) -> dict[str, str]:
    """The form with which a slave asks for a retry."""
    names = {"job_id": entry.job_id, "task_id": entry.task_id, "attempt": entry.key.attempt, "claim": holder.number}
    return {"task_json": json.dumps(names | changed)}


@both_ways
def test_a_job_is_submitted_watched_and_canceled(client: FlaskClient, ask: Ask, queue: Queue) -> None:
    assert ask(client, "/submit_job", job_form("a", "b")).json == SUCCESS
    assert queue.statistics().ready == 2

    status = ask(client, "/job_status", {"job_id": "job"}).json
    assert status == {
        "total_tasks": 2,
        "finished_tasks": 0,
        "running_tasks": 2,
        "retried_tasks": 0,
        "timedout_tasks": 0,
        "failed_tasks": 0,
        "succeeded_tasks": 0,
        "total_groups": 2,
        "finished_groups": 0,
        "failed_groups": 0,
        "succeeded_groups": 0,
        "flaky_groups": 0,
        "flaky_tasks": 0,
        "status": "running",
        "state": "running",
        "reason": None,
    }

    assert ask(client, "/cancel_job", {"job_id": "job"}).json == SUCCESS
    canceled = ask(client, "/job_status", {"job_id": "job"}).json
    assert canceled is not None
    assert (canceled["status"], canceled["failed_groups"], canceled["finished_groups"]) == ("finished", 2, 2)
    assert canceled["reason"] == "canceled by 127.0.0.1"
    assert queue.statistics().waiting_or_held == 0


def test_a_submit_that_is_repeated_succeeds_once(client: FlaskClient, queue: Queue) -> None:
    answers = [by_form(client, "/submit_job", job_form("a")) for _ in range(3)]

    assert [answer.json for answer in answers] == [SUCCESS] * 3
    assert queue.statistics().ready == 1


def test_another_job_of_the_same_id_is_a_conflict(client: FlaskClient) -> None:
    by_form(client, "/submit_job", job_form("a"))

    answer = by_form(client, "/submit_job", job_form("b"))

    assert answer.status_code == 409
    assert answer.json is not None
    assert answer.json["status"] == "ERROR"


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"job_id": "job"}, id="no job"),
        pytest.param({"job_id": "job", "job_json": "{"}, id="no JSON"),
        pytest.param({"job_id": "job", "job_json": "{}"}, id="no tasks"),
        pytest.param({"job_id": "a/b", "job_json": job_form("a")["job_json"]}, id="bad id"),
        pytest.param({"job_id": "job", "job_json": "[" * 100_000}, id="deep"),
        pytest.param({"job_id": "job", "job_json": "9" * 10_000}, id="long number"),
    ],
)
def test_a_malformed_job_is_refused_with_a_reason(client: FlaskClient, form: dict[str, str]) -> None:
    answer = by_form(client, "/submit_job", form)

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["status"] == "ERROR"
    assert answer.json["error"]


def test_canceling_what_has_ended_or_never_was_is_a_success(client: FlaskClient) -> None:
    by_form(client, "/submit_job", job_form("a"))

    for job_id in ("job", "job", "other"):
        assert by_get(client, "/cancel_job", {"job_id": job_id}).json == SUCCESS


def test_canceling_what_is_still_being_submitted_is_to_be_repeated(client: FlaskClient, database: Database) -> None:
    by_form(client, "/submit_job", job_form("a"))
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET state = 'submitting'"))

    answer = by_get(client, "/cancel_job", {"job_id": "job"})

    # The original's clients repeat only what was answered with 5xx.
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"


@both_ways
def test_unknown_jobs_are_answered_as_the_original_did(client: FlaskClient, ask: Ask) -> None:
    status = ask(client, "/job_status", {"job_id": "x"})
    assert (status.status_code, status.json) == (200, {"error": "Did not fetch any tasks for specified job_id x"})
    tasks = ask(client, "/tasks", {"job_id": "x"})
    assert (tasks.status_code, tasks.json) == (200, [])


@pytest.mark.parametrize(
    "path", ["/job_status", "/tasks", "/failed_tasks", "/submit_job", "/cancel_job", "/retry_task"]
)
def test_a_missing_parameter_is_named(client: FlaskClient, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 400
    assert answer.json is not None
    assert "is missing" in answer.json["error"]


def test_a_failed_attempts_holder_gets_the_next_one_queued(client: FlaskClient, hand: Hand, queue: Queue) -> None:
    by_form(client, "/submit_job", job_form("a", max_retries=1))
    entry, claim = hand.run(Outcome.FAILED, exit_status=1)
    assert queue.statistics().ready == 0

    answers = [by_form(client, "/retry_task", retry_form(entry, claim)) for _ in range(2)]

    assert [answer.json for answer in answers] == [SUCCESS] * 2
    assert queue.statistics().ready == 1
    status = by_get(client, "/job_status", {"job_id": "job"}).json
    assert status is not None
    assert (status["total_tasks"], status["retried_tasks"], status["flaky_groups"]) == (2, 1, 1)


def test_asking_for_a_retry_that_is_not_left_is_a_success(client: FlaskClient, hand: Hand, queue: Queue) -> None:
    by_form(client, "/submit_job", job_form("a"))
    entry, claim = hand.run(Outcome.FAILED, exit_status=1)

    assert by_form(client, "/retry_task", retry_form(entry, claim)).json == SUCCESS
    assert queue.statistics().ready == 0


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        pytest.param({"claim": 7}, 404, id="another claim"),
        pytest.param({"attempt": 1}, 404, id="another attempt"),
        pytest.param({"job_id": "other"}, 404, id="another job"),
        pytest.param({"task_id": f"{'b' * 40}.0"}, 404, id="another task"),
        pytest.param({"task_id": "nonsense"}, 404, id="no task id"),
        pytest.param({"claim": None}, 400, id="no claim"),
        pytest.param({"claim": True}, 400, id="claim is a boolean"),
        pytest.param({"attempt": "0"}, 400, id="attempt is a text"),
        pytest.param({"attempt": 10**40}, 404, id="attempt beyond all numbers"),
    ],
)
def test_only_the_holder_of_the_failed_claim_gets_a_retry(
    client: FlaskClient, hand: Hand, queue: Queue, changed: dict[str, Any], status: int
) -> None:
    by_form(client, "/submit_job", job_form("a", max_retries=1))
    entry, claim = hand.run(Outcome.FAILED, exit_status=1)

    answer = by_form(client, "/retry_task", retry_form(entry, claim, **changed))

    assert answer.status_code == status
    assert answer.json is not None
    assert answer.json["status"] == "ERROR"
    assert queue.statistics().ready == 0


@pytest.mark.parametrize("task_json", ["", "{", "[]", "3", "null", "[" * 100_000, "9" * 10_000])
def test_a_malformed_retry_is_refused(client: FlaskClient, task_json: str) -> None:
    assert by_form(client, "/retry_task", {"task_json": task_json}).status_code == 400


def test_tasks_have_links_to_what_was_stored_and_no_others(client: FlaskClient, hand: Hand) -> None:
    by_form(client, "/submit_job", job_form("a", "b"))
    hand.run(Outcome.FAILED, exit_status=1, stdout_bytes=1, artifact_bytes=1)

    failed, waiting = by_get(client, "/tasks", {"job_id": "job"}).json or []

    assert sorted(failed) == ["artifact_archive_link", "attempt", "description", "stdout_link", "task_id"]
    assert (failed["task_id"], failed["attempt"], failed["description"]) == (f"{HASH}.0", 0, "a")
    assert f"/job/{HASH}.0/0/1/stdout?" in failed["stdout_link"]
    assert f"job.{HASH}.0.0-artifacts.zip" in failed["artifact_archive_link"]
    assert "86400" in failed["stdout_link"]
    assert sorted(waiting) == ["attempt", "description", "task_id"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/tasks?job_id=job&status=failed", ["a"]),
        ("/tasks?job_id=job&status=succeeded", ["b"]),
        ("/tasks?job_id=job&status=finished", ["a", "b"]),
        ("/tasks?job_id=job", ["a", "b", "c"]),
        ("/failed_tasks?job_id=job", ["a"]),
    ],
)
def test_tasks_are_filtered_by_status(client: FlaskClient, hand: Hand, path: str, expected: list[str]) -> None:
    by_form(client, "/submit_job", job_form("a", "b", "c"))
    hand.run(Outcome.FAILED, exit_status=1)
    hand.run()

    found = client.get(path)

    assert found.content_type == "application/json"
    assert [task["description"] for task in found.json or []] == expected


def test_an_unknown_status_is_answered_as_the_original_did(client: FlaskClient) -> None:
    answer = client.get("/tasks?job_id=job&status=odd")

    assert (answer.status_code, answer.json) == (200, {"error": "Unknown status type odd"})


def test_tasks_come_in_pages_and_make_one_list(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(original, "PAGE", 2)
    names = [f"test {number}" for number in range(5)]
    by_form(client, "/submit_job", job_form(*names))

    found = by_get(client, "/tasks", {"job_id": "job"}).json or []

    assert [task["description"] for task in found] == names


def test_nothing_is_cached_but_logs(client: FlaskClient) -> None:
    for path in ("/", "/job_status?job_id=x", "/tasks?job_id=x", "/job?job_id=x"):
        headers = client.get(path).headers
        assert headers["Cache-Control"] == "no-cache, no-store"
        assert headers["Pragma"] == "no-cache"
        assert headers["Expires"] == "Sat, 01 Jan 1970 00:00:00 GMT"
    assert "Expires" not in client.get("/view_log?job_id=x&task_id=y&attempt=0&log=stdout").headers


def view_log(client: FlaskClient, **changed: str) -> str:
    """The page of a log."""
    values = {"job_id": "job", "task_id": f"{HASH}.0", "attempt": "0", "log": "stdout"} | changed
    answer = by_get(client, "/view_log", values)
    assert answer.status_code == 200
    return answer.text


def store(bucket: Bucket, log: bytes, name: str = "stdout") -> None:
    """Put a log where the first attempt's winner has put it."""
    bucket.put_file(result_key("job", f"{HASH}.0", 0, 1, name), BytesIO(log), content_type="text/plain")


def test_a_log_is_shown_as_text_whatever_is_in_it(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    by_form(client, "/submit_job", job_form("a"))
    log = b"<script>alert(1)</script>\xff & done"
    hand.run(Outcome.FAILED, exit_status=1, stdout_bytes=len(log))
    store(bucket, log)

    page = view_log(client)

    assert "&lt;script&gt;alert(1)&lt;/script&gt;\ufffd &amp; done" in page
    assert "<script>" not in page


def test_of_a_huge_log_head_and_tail_are_shown_with_a_link_to_the_whole(
    client: FlaskClient, hand: Hand, bucket: Bucket
) -> None:
    by_form(client, "/submit_job", job_form("a"))
    log = b"HEAD" + b"-" * 5_000_000 + b"TAIL"
    hand.run(Outcome.FAILED, exit_status=1, stdout_bytes=len(log))
    store(bucket, log)

    page = view_log(client)

    assert "HEAD---" in page
    assert "---TAIL" in page
    assert len(page) < 2_200_000
    assert "are left out here" in page
    assert "/download?" in page


def test_what_has_no_log_says_so(client: FlaskClient, hand: Hand) -> None:
    by_form(client, "/submit_job", job_form("a"))
    hand.run()

    assert "No stdout was stored" in view_log(client)
    assert "Unknown log type" in view_log(client, log="artifacts.zip")
    for changed in ({"job_id": "x"}, {"task_id": "x"}, {"attempt": "9"}, {"attempt": "x"}, {"attempt": "-1"}):
        assert "Could not find requested task" in view_log(client, **changed)


def test_a_log_that_was_pruned_is_not_found(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    by_form(client, "/submit_job", job_form("pruned"))
    hand.run(Outcome.FAILED, exit_status=1, stderr_bytes=1)

    answer = client.get(f"/view_log?job_id=job&task_id={HASH}.0&attempt=0&log=stderr")

    assert answer.status_code == 404
    assert "text/html" in answer.content_type
