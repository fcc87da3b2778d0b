"""`dist-test logs`: which task is meant, what is printed of it, and how it exits."""

from collections import deque

import pytest

from dist_test.cli.logs import harmless
from tests.fakes.master import FakeMaster, attempt_document, log_document
from tests.unit.cli.conftest import RunCli

ID = f"{'a' * 40}.0"


def add_log(master: FakeMaster, stdout: list[bytes], stderr: bytes = b"", *, outcome: str | None = "succeeded") -> None:
    """Have a log whose looks show these pieces of stdout, the last one with the outcome."""
    *early, last = stdout
    pieces = [log_document(b"")]  # what finds the task
    offset = 0
    for data in early:
        pieces.append(log_document(data, offset=offset))
        offset += len(data)
    pieces.append(log_document(last, offset=offset, outcome=outcome))
    master.add_job("j")
    master.attempts["j"] = [attempt_document(0, description="net one"), attempt_document(1, description="net two")]
    for name in (ID, "0"):
        master.logs[name, "stdout"] = deque(pieces)
        master.logs[name, "stderr"] = deque([log_document(stderr, stream="stderr", outcome=outcome)])
    master.logs["0", "stdout"] = deque(pieces[:1])
    master.logs[ID, "stdout"] = deque(pieces[1:])


def test_both_streams_are_printed_where_they_belong(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"out\n"], b"err\n", outcome="failed")
    ran = run_cli("logs", "j", "0")
    assert (ran.status, ran.stdout) == (0, "out\n")
    assert ran.stderr == "err\ndist-test: attempt 0 failed\n"


def test_following_goes_on_to_the_end(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"one\n", b"two\n", b"three\n"])
    ran = run_cli("logs", "-f", "--stdout", "j", "0")
    assert (ran.status, ran.stdout) == (0, "one\ntwo\nthree\n")
    assert "attempt 0 succeeded; the log is not kept" in ran.stderr
    asked = [request.query["offset"] for request in master.requests if "stream" in request.query]
    assert asked == ["0", "0", "4", "8"]


@pytest.mark.parametrize("outcome", ["failed", "canceled", "timed_out"])
def test_following_what_does_not_succeed_exits_88(master: FakeMaster, run_cli: RunCli, outcome: str) -> None:
    add_log(master, [b"x\n"], outcome=outcome)
    assert run_cli("logs", "-f", "j", "0").status == 88


def test_standard_error_alone_comes_on_standard_output(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"out\n"], b"err\n")
    assert run_cli("logs", "--stderr", "j", "0").stdout == "err\n"


def test_a_part_of_a_description_names_a_task(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"out\n"])
    master.logs[ID, "stdout"].popleft()
    master.logs[ID, "stdout"].append(log_document(b"out\n", outcome="succeeded"))
    assert run_cli("logs", "j", "t one").stdout == "out\n"


def test_a_description_of_several_tasks_lists_them(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"out\n"])
    ran = run_cli("logs", "j", "net")
    assert (ran.status, ran.stdout) == (1, "")
    assert "2 tasks of job j match 'net'" in ran.stderr
    assert f"{ID}  net one" in ran.stderr


def test_a_task_that_is_not_there_is_named_with_the_way_out(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"out\n"])
    ran = run_cli("logs", "j", "nonsense")
    assert ran.status == 1
    assert "job j has no task nonsense; give a task id" in ran.stderr


def test_a_job_that_is_not_there_is_named(master: FakeMaster, run_cli: RunCli) -> None:
    ran = run_cli("logs", "nojob", "0")
    assert ran.status == 1
    assert "nojob" in ran.stderr


def test_what_is_left_out_is_said(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"out\n"])
    master.logs[ID, "stdout"] = deque([log_document(b"end\n", offset=70, left_out_bytes=70, outcome="succeeded")])
    ran = run_cli("logs", "j", "0")
    assert ran.stdout == "end\n"
    assert "70 bytes of stdout are left out here" in ran.stderr


def test_an_attempt_that_begins_anew_is_shown_from_its_begin(master: FakeMaster, run_cli: RunCli) -> None:
    add_log(master, [b"out\n"])
    master.logs[ID, "stdout"] = deque(
        [
            log_document(b"first run\n"),
            log_document(b"", offset=10, run=2),
            log_document(b"second run\n", run=2, outcome="succeeded"),
        ]
    )
    ran = run_cli("logs", "-f", "--stdout", "j", "0")
    assert ran.stdout == "first run\nsecond run\n"
    assert "runs again from its start" in ran.stderr


def test_terminals_get_nothing_that_acts_on_them() -> None:
    assert harmless("a\tb\r\nc\x1b[31m\x07\x9bd\n") == "a\tb\nc\ufffd[31m\ufffd\ufffdd\n"
