"""What is shown of a job, on a terminal and in a pipe, and which tasks count as failed."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from dist_test.cli.failures import SHOWN_FAILURES, Failures
from dist_test.cli.master_client import MasterClient
from dist_test.cli.progress import describe_failure, seconds_left
from dist_test.cli.records import Attempt, Job
from dist_test.cli.watch import watch_job
from tests.fakes.clock import FakeClock
from tests.fakes.master import Document, FakeMaster, attempt_document, job_document

Show = Callable[..., str]


@pytest.fixture
def client(master: FakeMaster) -> MasterClient:
    return MasterClient(master.url, clock=FakeClock(), report=lambda message: pytest.fail(message))


@pytest.fixture
def show(master: FakeMaster, client: MasterClient) -> Show:
    """Watches a job that looks like this, one look after the other, and gives what was written."""

    def watch(*looks: Document, terminal: bool, term: str = "xterm") -> str:
        master.add_job("j", *looks)
        stream = io.StringIO()
        watch_job(
            client, "j", Console(file=stream, force_terminal=terminal, width=100, _environ={"TERM": term}), FakeClock()
        )
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()) if terminal else stream.getvalue()

    return watch


def test_a_pipe_gets_one_line_for_each_change(show: Show) -> None:
    running = [
        job_document("j", total_tasks=120),
        job_document("j", total_tasks=120, finished_tasks=9),
        job_document("j", total_tasks=120, finished_tasks=9, running_attempts=2),
        job_document("j", total_tasks=120, finished_tasks=40, failed_tasks=2, retried_attempts=1),
    ]

    shown = show(*running, job_document("j", result="failed", total_tasks=120, failed_tasks=2), terminal=False)

    assert shown.splitlines()[:-1] == [
        "  0.0s\t 0/120 tests complete",
        "  0.5s\t 9/120 tests complete",
        "  1.6s\t 40/120 tests complete (2 failed) (1 retries)",
        "  2.2s\t 120/120 tests complete (2 failed)",
    ]
    assert "\x1b" not in shown


def test_a_terminal_that_can_do_nothing_gets_lines(show: Show) -> None:
    shown = show(job_document("j", result="succeeded"), terminal=True, term="dumb")

    assert shown.startswith("  0.0s\t 1/1 tests complete\n")


def test_the_last_line_has_the_result_and_the_web_address(show: Show) -> None:
    fields: dict[str, Any] = {"total_tasks": 5, "failed_tasks": 3, "canceled_tasks": 2, "flaky_tasks": 1}

    shown = show(job_document("j", result="canceled", cancel_reason="too many\nfailures", **fields), terminal=False)

    assert shown.splitlines()[-1] == (
        "Job j was canceled: too many\N{REPLACEMENT CHARACTER}failures"
        " (5 tests, 1 failed, 2 canceled, 1 flaky; watched for 0.0s) http://master.example/job?job_id=j"
    )


def test_a_terminal_gets_a_bar_with_counts_and_time_left(show: Show) -> None:
    fields: dict[str, Any] = {"total_tasks": 10, "finished_tasks": 4, "failed_tasks": 0, "running_attempts": 3}
    running = job_document("j", expected_seconds_left=75.0, flaky_tasks=1, retrying_tasks=2, **fields)

    shown = show(running, job_document("j", result="succeeded", total_tasks=10), terminal=True)

    for part in ("4/10", "3 running", "1 flaky", "2 retrying", "0:01:15 left", "Job j succeeded"):
        assert part in shown
    assert shown.endswith("http://master.example/job?job_id=j\n")


def test_a_terminal_lists_failed_tasks_as_they_fail_with_their_log(show: Show, master: FakeMaster) -> None:
    link = f"http://s3.example/{'x' * 200}"
    master.attempts["j"] = [
        attempt_document(0, outcome="failed", exit_status=3, stderr_url=link),
        attempt_document(1, 0, outcome="failed"),
        attempt_document(1, 1, outcome="succeeded"),
    ]
    running = job_document("j", total_tasks=3, finished_tasks=2, failed_tasks=1, flaky_tasks=1)

    shown = show(running, running, job_document("j", result="failed", total_tasks=3, failed_tasks=1), terminal=True)

    assert shown.count("test 0 (exit code 3)") == 1
    assert link in shown
    assert shown.index(link) < shown.index("2/3")
    assert "test 1" not in shown


def test_each_failed_task_is_listed_once(master: FakeMaster, client: MasterClient) -> None:
    master.attempts["j"] = [attempt_document(2, outcome="failed")]
    one = job_document("j", total_tasks=9, finished_tasks=1, failed_tasks=1)
    two = job_document("j", total_tasks=9, finished_tasks=2, failed_tasks=2)
    master.add_job("j", one)
    failures = Failures(client, "j")

    assert [attempt.description for attempt in failures.new(Job.from_json(one))] == ["test 2"]
    master.attempts["j"].insert(0, attempt_document(1, outcome="failed"))
    assert [attempt.description for attempt in failures.new(Job.from_json(two))] == ["test 1"]
    assert failures.new(Job.from_json(two)) == []


def test_many_failures_end_in_a_count(show: Show, master: FakeMaster) -> None:
    master.attempts["j"] = [attempt_document(index, outcome="failed") for index in range(25)]

    shown = show(job_document("j", result="failed", total_tasks=25), terminal=True)

    assert shown.count("(exit code 1)") == SHOWN_FAILURES
    assert "... and 15 more failed tasks" in shown


def test_a_task_that_is_being_retried_has_not_failed(master: FakeMaster, client: MasterClient) -> None:
    master.attempts["j"] = [attempt_document(0, outcome="failed"), attempt_document(1, outcome="failed")]
    retrying = job_document("j", total_tasks=2, finished_tasks=1, failed_tasks=1, retrying_tasks=1)
    master.add_job("j", retrying)

    assert Failures(client, "j").new(Job.from_json(retrying)) == []


def test_a_retry_that_comes_in_between_keeps_failures_back(master: FakeMaster, client: MasterClient) -> None:
    master.attempts["j"] = [attempt_document(0, outcome="failed"), attempt_document(1, outcome="failed")]
    before = job_document("j", total_tasks=3, finished_tasks=1, failed_tasks=1)
    master.add_job("j", job_document("j", total_tasks=3, finished_tasks=1, failed_tasks=1, retried_attempts=1))
    failures = Failures(client, "j")

    assert failures.new(Job.from_json(before)) == []
    finished = job_document("j", result="failed", total_tasks=3, failed_tasks=2, retried_attempts=1)
    assert [attempt.description for attempt in failures.new(Job.from_json(finished))] == ["test 0", "test 1"]


def test_canceled_tasks_are_not_listed_as_failed(master: FakeMaster, client: MasterClient) -> None:
    master.attempts["j"] = [attempt_document(0, outcome="canceled"), attempt_document(1, outcome="lost")]
    job = job_document("j", result="canceled", total_tasks=2, failed_tasks=2, canceled_tasks=1)
    master.add_job("j", job)
    failures = Failures(client, "j")

    assert [attempt.outcome for attempt in failures.new(Job.from_json(job))] == ["lost"]
    assert failures.more(Job.from_json(job)) == 0


@pytest.mark.parametrize(
    ("fields", "described"),
    [
        ({"outcome": "failed", "exit_status": 7}, "test 0 (exit code 7)"),
        ({"outcome": "failed", "exit_status": -11, "attempt": 2}, "test 0 (signal 11, attempt 3)"),
        ({"outcome": "timed_out", "exit_status": -15}, "test 0 (timed out)"),
        ({"outcome": "setup_failed"}, "test 0 (setup failed)"),
        ({"outcome": "failed", "exit_status": None}, "test 0 (failed)"),
        (
            {"outcome": "lost", "description": "a\x1b[31m\nb"},
            "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b (lost)",
        ),
    ],
)
def test_a_failure_is_described_in_one_harmless_line(fields: Document, described: str) -> None:
    assert describe_failure(Attempt.from_json(attempt_document(0, **fields))) == described


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"expected_seconds_left": 42.0, "total_tasks": 4, "finished_tasks": 1}, 42.0),
        ({"total_tasks": 4, "finished_tasks": 1}, 30.0),
        ({"total_tasks": 4}, None),
    ],
)
def test_the_time_left_is_the_masters_or_else_the_rates(fields: Document, left: float | None) -> None:
    assert seconds_left(Job.from_json(job_document("j", **fields)), 10.0) == left
