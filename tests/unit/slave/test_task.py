"""What is recorded of an attempt that ran."""

from datetime import timedelta
from pathlib import Path

import pytest

from dist_test.running.records import OutputFile, RunResult
from dist_test.slave.task import result_of
from dist_test.slave.uploads import Uploaded

from .test_heartbeat import Bench


def _ran(directory: Path, outcome: str, exit_status: int | None, stderr: bytes = b"", *notes: str) -> RunResult:
    for name, content in (("stdout", b""), ("stderr", stderr)):
        (directory / name).write_bytes(content)
    return RunResult(
        outcome=outcome,
        exit_status=exit_status,
        duration=timedelta(seconds=2),
        stdout=OutputFile(path=directory / "stdout", size_bytes=0),
        stderr=OutputFile(path=directory / "stderr", size_bytes=len(stderr)),
        artifacts=None,
        notes=notes,
        leaked_dir=None,
    )


@pytest.mark.parametrize(
    ("outcome", "exit_status", "stderr", "message"),
    [
        pytest.param("succeeded", 0, b"noise\n", "", id="a success needs no words"),
        pytest.param("failed", 3, b"first\n\nlast line  \n", "exit code 3; last line", id="exit code and last line"),
        pytest.param("failed", -11, b"", "killed by SIGSEGV", id="signal"),
        pytest.param("failed", -40, b"", "killed by signal 40", id="real-time signals have no name"),
        pytest.param("failed", 1, b"\xff\xfe\n", "exit code 1; \ufffd\ufffd", id="any bytes"),
        pytest.param("timed_out", -15, b"", "stopped at its limit of 0 s", id="timed out"),
        pytest.param("failed", None, b"", "", id="nobody saw how it ended"),
    ],
)
def test_the_message_says_how_it_ended(
    tmp_path: Path, outcome: str, exit_status: int | None, stderr: bytes, message: str
) -> None:
    result = result_of(Bench().hold(1), _ran(tmp_path, outcome, exit_status, stderr), Uploaded())
    assert (result.outcome, result.exit_status, result.message) == (outcome, exit_status, message)


def test_lost_logs_and_notes_are_said(tmp_path: Path) -> None:
    ran = _ran(tmp_path, "succeeded", 0, b"", "2 artifacts were left out")
    result = result_of(Bench().hold(1), ran, Uploaded(is_lost=True))
    assert result.logs_lost
    assert result.message == "2 artifacts were left out; its logs and artifacts could not be stored"


def test_a_note_that_ends_the_log_too_is_said_once(tmp_path: Path) -> None:
    ran = _ran(tmp_path, "failed", None, b"------\nits launcher died\n", "its launcher died")
    assert result_of(Bench().hold(1), ran, Uploaded()).message == "its launcher died"
