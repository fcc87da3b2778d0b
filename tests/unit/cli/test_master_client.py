"""The client's patience, its errors, and what it takes for an answer."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from dist_test.cli.master_client import MasterClient
from dist_test.errors import (
    DistTestError,
    InvalidJob,
    JobConflict,
    JobNotFound,
    JobNotRunning,
    MasterRefused,
    MasterUnavailable,
)
from tests.fakes.clock import FakeClock
from tests.fakes.master import Answer, FakeMaster, attempt_document, error_answer, job_document, json_answer

TASK = {"isolate_hash": "a" * 40, "description": "a test"}
JOB = {"job_id": "ada.1.2-abcd", "tasks": [TASK]}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def connect(master: FakeMaster, said: list[str]) -> Callable[..., MasterClient]:
    def make(clock: FakeClock | None = None, **options: Any) -> MasterClient:
        return MasterClient(master.url, clock=clock or FakeClock(), report=said.append, **options)

    return make


def test_a_submitted_job_comes_back_as_a_record(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    job = connect().submit(JOB)

    assert (job.job_id, job.counters.total_tasks, job.result) == ("ada.1.2-abcd", 1, "succeeded")
    assert job.submitted_at.tzinfo is not None
    assert list(master.submitted) == ["ada.1.2-abcd"]


def test_a_submit_is_repeated_after_a_server_error_and_counts_once(
    master: FakeMaster, connect: Callable[..., MasterClient], said: list[str]
) -> None:
    master.next_answers += [error_answer(500, "internal", "boom"), Answer(status=502), error_answer(503, "x", "wait")]
    clock = FakeClock()

    connect(clock).submit(JOB)

    assert clock.sleeps == [0.5, 1, 2]
    assert len(master.submitted) == 1
    assert said == [f"the master {master.url} is away (boom); trying for 50 seconds", "the master is back"]


def test_retry_after_is_honoured(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    header = {"Retry-After": "7"}
    master.next_answers += [error_answer(503, "submit_in_progress", "another master has it", **header)] * 2
    clock = FakeClock()

    connect(clock).submit(JOB)

    assert clock.sleeps == [7, 7]


def test_an_absurd_retry_after_is_bounded(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    master.next_answers += [error_answer(503, "unavailable", "no", **{"Retry-After": "99999"})]
    clock = FakeClock()

    connect(clock, patience=timedelta(minutes=10)).submit(JOB)

    assert clock.sleeps == [60]


def test_patience_ends_after_about_fifty_seconds_with_the_last_reason(
    master: FakeMaster, connect: Callable[..., MasterClient], said: list[str]
) -> None:
    master.stop()
    clock = FakeClock()

    with pytest.raises(MasterUnavailable) as raised:
        connect(clock).job("some.job")

    assert str(raised.value) == f"the master {master.url} is away: Connection refused"
    assert 40 < sum(clock.sleeps) <= 50
    assert clock.sleeps == sorted(clock.sleeps)
    assert len(said) == 1


def test_an_answer_cut_short_is_asked_for_again(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    master.add_job("j")
    whole = json_answer(job_document("j"))
    master.next_answers.append(Answer(body=whole.body, headers=whole.headers, cut_bytes=50))

    assert connect().job("j").job_id == "j"


def test_a_silent_master_counts_as_away(
    master: FakeMaster, connect: Callable[..., MasterClient], said: list[str]
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = MasterClient(
            url, clock=FakeClock(), report=said.append, timeout_seconds=0.05, patience=timedelta(seconds=1)
        )
        with pytest.raises(MasterUnavailable, match="no answer in time"):
            client.job("j")


REFUSALS: list[tuple[Answer, type[DistTestError], str]] = [
    (error_answer(400, "invalid_job", "tasks[0] is odd"), InvalidJob, "tasks[0] is odd"),
    (error_answer(400, "invalid_request", "no"), MasterRefused, "no"),
    (error_answer(403, "forbidden", "not yours"), MasterRefused, "not yours"),
    (error_answer(404, "not_found", "no job has the id j"), JobNotFound, "no job has the id j"),
    (error_answer(409, "conflict", "other tasks"), JobConflict, "other tasks"),
    (error_answer(409, "job_not_running", "has ended"), JobNotRunning, "has ended"),
    (error_answer(413, "too_large", "256 MiB at most"), MasterRefused, "256 MiB at most"),
    (Answer(status=404, body=b"<html>"), MasterRefused, "does not answer like a dist_test master (404 Not Found)"),
    (Answer(body=b"<html>hello</html>"), MasterRefused, "does not answer like a dist_test master (200 OK)"),
    (json_answer([1]), MasterRefused, "does not answer like a dist_test master"),
    (json_answer({"job_id": "j"}), MasterRefused, "the master's answer lacks name of a job"),
    (json_answer(job_document("j") | {"counters": 3}), MasterRefused, "holds 3 instead of the job's counters"),
    (json_answer(job_document("j", submitted_at="noon")), MasterRefused, "has 'noon' for a time"),
]


@pytest.mark.parametrize(("answer", "error", "message"), REFUSALS)
def test_a_refusal_is_told_at_once(
    master: FakeMaster,
    connect: Callable[..., MasterClient],
    answer: Answer,
    error: type[DistTestError],
    message: str,
) -> None:
    master.next_answers.append(answer)
    clock = FakeClock()

    with pytest.raises(error) as raised:
        connect(clock).job("j")

    assert message in str(raised.value)
    assert clock.sleeps == []


def test_credentials_are_used_when_asked_for(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    master.accounts = {"ada": "secret"}

    connect(credentials=("ada", "secret")).submit(JOB)

    assert list(master.submitted) == ["ada.1.2-abcd"]


def test_a_stale_nonce_is_replaced(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    master.accounts = {"ada": "secret"}
    client = connect(credentials=("ada", "secret"))
    client.submit(JOB)
    master.stale_nonces = 1

    client.submit(JOB)

    assert len(master.paths("POST")) == 4  # refused, taken, stale, taken


def test_a_wrong_password_is_named_without_showing_it(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    master.accounts = {"ada": "secret"}

    with pytest.raises(MasterRefused) as raised:
        connect(credentials=("ada", "guess")).submit(JOB)

    assert str(raised.value) == f"the master {master.url} does not accept the user ada with this password"


def test_missing_credentials_say_how_to_set_them(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    master.accounts = {"ada": "secret"}

    with pytest.raises(MasterRefused, match="set DIST_TEST_USER and DIST_TEST_PASSWORD"):
        connect().submit(JOB)


def test_attempts_come_page_by_page(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    master.add_job("j")
    master.attempts["j"] = [attempt_document(index) for index in range(5)]

    pages = [len(page) for page in connect().attempt_pages("j", state="finished", limit=2)]

    assert pages == [2, 2, 1]


def test_a_job_id_cannot_lead_to_another_path(master: FakeMaster, connect: Callable[..., MasterClient]) -> None:
    with pytest.raises(JobNotFound):
        connect().job("../jobs?x=/")

    assert master.paths() == ["/api/v1/jobs/..%2Fjobs%3Fx%3D%2F"]
