"""The logs of running and of ended tasks, through the API."""

import base64
import io
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from dist_test.model.cut_log import cut_line
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import result_key
from dist_test.model.task import QueueEntry
from dist_test.model.written import Written
from dist_test.storage.claims import Claim
from dist_test.storage.database import Database
from dist_test.storage.finishes import Finishes, Result
from dist_test.storage.live_logs import LiveLogs
from dist_test.storage.results import Bucket

from .conftest import HASH, Hand, job_document

TASK = f"{HASH}.0"


@pytest.fixture
def slave_logs(slave_database: Database) -> LiveLogs:
    return LiveLogs(slave_database)


def submit(client: FlaskClient, **fields: Any) -> None:
    answer = client.post("/api/v1/jobs", json=job_document("t", **fields))
    assert answer.status_code == 201, answer.text


def ask(client: FlaskClient, task: str = TASK, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/api/v1/jobs/job/tasks/{task}/log", query_string=query)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json, dict)
    return answer.json


def streams(stdout: bytes, *, total: int | None = None) -> dict[str, Written]:
    size = len(stdout) if total is None else total
    return {"stdout": Written(total_bytes=size, tail=stdout), "stderr": Written(total_bytes=0, tail=b"")}


def finish(database: Database, claim: Claim, entry: QueueEntry, outcome: Outcome, **fields: Any) -> None:
    result = Result(claim=claim, outcome=outcome, task=entry.task, **fields)
    Finishes(database, slave_id="slave-1").record([result])


def let_time_pass(database: Database, by: timedelta) -> None:
    with database.engine.begin() as connection:
        statement = "UPDATE attempts SET finished_at = finished_at - INTERVAL :s SECOND WHERE finished_at IS NOT NULL"
        connection.execute(text(statement), {"s": round(by.total_seconds())})
        statement = "UPDATE live_logs SET written_at = written_at - INTERVAL :s SECOND"
        connection.execute(text(statement), {"s": round(by.total_seconds())})


def test_a_queued_task_has_an_empty_log_that_is_not_final(client: FlaskClient) -> None:
    submit(client)
    log = ask(client)
    assert (log["state"], log["data"], log["is_final"], log["next_offset"]) == ("queued", "", False, 0)
    assert ask(client, "0")["task_id"] == TASK


def test_a_running_task_shows_what_its_slave_writes_from_an_offset_on(
    client: FlaskClient, hand: Hand, slave_logs: LiveLogs
) -> None:
    submit(client)
    _, claim = hand.take()
    assert ask(client)["data"] == ""
    assert slave_logs.write(claim, streams(b"one\ntwo\n"))
    log = ask(client)
    assert (log["state"], log["data"], log["next_offset"], log["is_final"]) == ("running", "one\ntwo\n", 8, False)
    assert ask(client, offset=4)["data"] == "two\n"
    assert ask(client, offset=8)["data"] == ""
    assert ask(client, stream="stderr")["data"] == ""
    slave_logs.write(claim, streams(b"nine\n", total=100))
    log = ask(client, offset=8)
    assert (log["offset"], log["left_out_bytes"], log["data"], log["next_offset"]) == (95, 87, "nine\n", 100)


def test_characters_are_not_cut_in_two_and_bytes_are_not_changed(
    client: FlaskClient, hand: Hand, slave_logs: LiveLogs
) -> None:
    submit(client)
    _, claim = hand.take()
    ask(client)
    tail = "äö€".encode()[1:-1]
    slave_logs.write(claim, streams(tail, total=100))
    log = ask(client)
    assert (log["data"], log["left_out_bytes"], log["next_offset"]) == ("ö", 96, 98)
    raw = ask(client, encoding="base64")
    assert base64.b64decode(raw["data"]) == tail
    assert raw["next_offset"] == 100


def test_output_of_an_earlier_claim_is_not_shown(client: FlaskClient, hand: Hand, slave_logs: LiveLogs) -> None:
    submit(client)
    _, claim = hand.take()
    ask(client)
    slave_logs.write(Claim(key=claim.key, number=claim.number - 1), streams(b"a ghost's"))
    assert ask(client)["data"] == ""


def test_a_success_that_was_watched_ends_with_its_last_bytes(
    client: FlaskClient, hand: Hand, slave_logs: LiveLogs, slave_database: Database
) -> None:
    submit(client)
    entry, claim = hand.take()
    ask(client)
    slave_logs.write(claim, streams(b"begin\n"))
    finish(slave_database, claim, entry, Outcome.SUCCEEDED)
    log = ask(client)
    assert (log["state"], log["data"], log["is_final"]) == ("finished", "begin\n", False), "the slave has more to write"
    slave_logs.write(claim, streams(b"begin\nend\n"))
    log = ask(client, offset=6)
    assert (log["outcome"], log["data"], log["is_final"], log["is_stored"]) == ("succeeded", "end\n", True, False)


def test_a_success_whose_slave_has_died_ends_after_three_seconds(
    client: FlaskClient, hand: Hand, slave_logs: LiveLogs, slave_database: Database, database: Database
) -> None:
    submit(client)
    entry, claim = hand.take()
    ask(client)
    slave_logs.write(claim, streams(b"begin\n"))
    finish(slave_database, claim, entry, Outcome.SUCCEEDED)
    assert not ask(client)["is_final"]
    let_time_pass(database, timedelta(seconds=4))
    assert ask(client)["is_final"]


def test_a_success_that_nobody_watched_says_that_nothing_is_stored(client: FlaskClient, hand: Hand) -> None:
    submit(client)
    hand.run()
    log = ask(client)
    assert (log["outcome"], log["data"], log["is_final"], log["is_stored"]) == ("succeeded", "", True, False)


def test_the_stored_log_of_a_failure_comes_in_parts(
    client: FlaskClient, hand: Hand, bucket: Bucket, slave_database: Database
) -> None:
    submit(client)
    entry, claim = hand.take()
    content = b"0123456789" * 150_000
    _store(bucket, claim, content)
    finish(slave_database, claim, entry, Outcome.FAILED, stdout_bytes=len(content), stderr_bytes=0)
    first = ask(client)
    assert (len(first["data"]), first["is_final"], first["is_stored"]) == (2**20, False, True)
    rest = ask(client, offset=first["next_offset"])
    assert (first["data"] + rest["data"], rest["is_final"]) == (content.decode(), True)
    assert ask(client, stream="stderr")["is_final"]
    end = ask(client, offset=rest["next_offset"])
    assert (end["data"], end["is_final"], end["left_out_bytes"]) == ("", True, 0)


def test_whoever_followed_a_cut_log_gets_its_rest_by_the_same_offsets(
    client: FlaskClient, hand: Hand, bucket: Bucket, slave_logs: LiveLogs, slave_database: Database
) -> None:
    submit(client)
    entry, claim = hand.take()
    ask(client)
    output = b"".join(b"%07d\n" % number for number in range(1000))
    stored = output[:400] + cut_line(len(output) - 800, 800) + output[-400:]
    _store(bucket, claim, stored)
    slave_logs.write(claim, streams(output[-80:], total=len(output)))
    finish(slave_database, claim, entry, Outcome.FAILED, stdout_bytes=len(stored), stderr_bytes=0)
    early = ask(client, offset=80)
    assert (early["data"], early["next_offset"], early["is_final"]) == ("", 80, False), "nothing is skipped meanwhile"
    slave_logs.write(claim, streams(output[-80:], total=len(output)))
    head = ask(client, offset=80)
    assert (head["data"], head["is_final"]) == (output[80:400].decode(), False)
    tail = ask(client, offset=head["next_offset"])
    assert (tail["left_out_bytes"], tail["data"], tail["is_final"]) == (7200, output[-400:].decode(), True)
    assert ask(client, offset=7992)["data"] == "0000999\n"


def test_a_retry_is_the_latest_attempt(client: FlaskClient, hand: Hand) -> None:
    submit(client, max_retries=1)
    hand.run(Outcome.FAILED)
    assert (ask(client)["attempt"], ask(client)["state"]) == (1, "queued")
    first = ask(client, attempt=0)
    assert (first["attempt"], first["latest_attempt"], first["outcome"], first["is_final"]) == (0, 1, "failed", True)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nojob/tasks/0/log", "no job has the id nojob"),
        ("job/tasks/7/log", "has no task 7"),
        ("job/tasks/t/log", "has no task t"),
        (f"job/tasks/{'b' * 40}.0/log", "has no task"),
        ("job/tasks/0/log?attempt=3", "has no attempt 3; its latest is 0"),
    ],
)
def test_what_is_not_there_is_named(client: FlaskClient, path: str, message: str) -> None:
    submit(client)
    answer = client.get(f"/api/v1/jobs/{path}")
    assert isinstance(answer.json, dict)
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "not_found")
    assert message in answer.json["error"]["message"]


@pytest.mark.parametrize("query", ["stream=x", "offset=-1", "offset=a", "attempt=99999", "encoding=x"])
def test_what_cannot_be_asked_is_refused(client: FlaskClient, query: str) -> None:
    submit(client)
    assert client.get(f"/api/v1/jobs/job/tasks/0/log?{query}").status_code == 400


def test_anybody_may_read_a_log(client: FlaskClient, stranger: FlaskClient) -> None:
    submit(client)
    assert ask(stranger)["state"] == "queued"


def _store(bucket: Bucket, claim: Claim, content: bytes) -> None:
    bucket.upload(result_key("job", TASK, 0, claim.number, "stdout"), io.BytesIO(content), len(content))
