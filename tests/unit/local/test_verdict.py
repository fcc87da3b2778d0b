"""Expected and actual of the sample suite, compared."""

from typing import Any

import pytest

from dist_test.errors import LocalClusterError
from dist_test.local.verdict import Expectation, Result, describe, describe_result, differences, read_expectations

EXPECTED = Expectation(
    outcome="succeeded",
    attempts=2,
    flaky=True,
    logs={"0.stderr": ["wrong side"]},
    artifacts=["a.xml"],
    no_process_named="daemon",
)


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "outcomes": ["failed", "succeeded"],
        "logs": {"0.stderr": "the coin fell on the wrong side"},
        "artifacts": ["a.xml"],
        "processes_left": 0,
    }
    return Result(**fields | changes)


def test_a_result_that_is_as_expected_has_no_differences() -> None:
    assert differences(EXPECTED, result()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"outcomes": ["failed", "failed"]}, ["outcome: failed, not succeeded", "flaky: False, not True"]),
        ({"outcomes": ["succeeded"]}, ["attempts: 1, not 2", "flaky: False, not True"]),
        (
            {"outcomes": []},
            ["outcome: None, not succeeded", "attempts: 0, not 2", "flaky: False, not True"],
        ),
        ({"artifacts": []}, ["artifacts: [], not ['a.xml']"]),
        ({"logs": {}}, ["0.stderr lacks 'wrong side'"]),
        ({"logs": {"0.stderr": "right side"}}, ["0.stderr lacks 'wrong side'"]),
        ({"processes_left": 3}, ["3 processes are left"]),
    ],
    ids=["outcome", "no retry", "never ran", "no artifact", "no log", "other log", "daemon left"],
)
def test_each_difference_is_named(changes: dict[str, Any], expected: list[str]) -> None:
    assert differences(EXPECTED, result(**changes)) == expected


def test_expected_and_actual_read_alike_when_they_agree() -> None:
    words = "succeeded, 2 attempts, flaky, 1 artifact, logs, nothing left"
    assert (describe(EXPECTED), describe_result(EXPECTED, result())) == (words, words)


@pytest.mark.parametrize("text", ["not json", "[]", '{"a": 1}', '{"a": {"outcom": "failed"}}', '{"a": {}}'])
def test_a_file_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(LocalClusterError, match=r"expected\.json is not a table of expectations"):
        read_expectations(text)
