"""What the original's clients are told about an attempt."""

import pytest

from dist_test.model.outcome import Outcome, wire_status


@pytest.mark.parametrize(
    ("outcome", "exit_status", "wire"),
    [
        pytest.param(None, None, None, id="unfinished"),
        pytest.param(Outcome.SUCCEEDED, 0, 0, id="succeeded"),
        pytest.param(Outcome.FAILED, 3, 3, id="exit code"),
        pytest.param(Outcome.FAILED, -11, -11, id="SIGSEGV"),
        pytest.param(Outcome.FAILED, -9, 137, id="SIGKILL is not a time-out"),
        pytest.param(Outcome.FAILED, -1, 129, id="SIGHUP is not a cancel"),
        pytest.param(Outcome.FAILED, -2, 130, id="SIGINT is not a failed download"),
        pytest.param(Outcome.FAILED, None, 1, id="the launcher died"),
        pytest.param(Outcome.TIMED_OUT, -15, -9, id="timed out, dead by SIGTERM"),
        pytest.param(Outcome.TIMED_OUT, 0, -9, id="timed out, yet exit code 0"),
        pytest.param(Outcome.CANCELED, None, -1, id="canceled"),
        pytest.param(Outcome.SETUP_FAILED, None, -2, id="setup failed"),
        pytest.param(Outcome.LOST, None, -2, id="lost"),
    ],
)
def test_wire_status_is_the_originals(outcome: Outcome | None, exit_status: int | None, wire: int | None) -> None:
    assert wire_status(outcome, exit_status) == wire
