"""What a suite's expected.json says, what came of its job, and where the two differ. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dist_test.errors import LocalClusterError


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What must come of one test.

    `logs` maps "ATTEMPT.STREAM" to texts that must be in that log; `artifacts` are the archive's members, sorted.
    `no_process_named` is an argument that no process of this machine may have after the job.
    """

    outcome: str
    attempts: int
    flaky: bool = False
    logs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    artifacts: Sequence[str] = ()
    no_process_named: str | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one test. `outcomes` has one entry an attempt; `logs` and `artifacts` as in an Expectation."""

    outcomes: Sequence[str | None]
    logs: Mapping[str, str]
    artifacts: Sequence[str]
    processes_left: int = 0

    @property
    def outcome(self) -> str | None:
        """That of the last attempt; None when it did not end."""
        return self.outcomes[-1] if self.outcomes else None

    @property
    def is_flaky(self) -> bool:
        return self.outcome == "succeeded" and len(self.outcomes) > 1


def read_expectations(text: str) -> dict[str, Expectation]:
    """Expectations by test from the text of an expected.json. Raises LocalClusterError when it is something else."""
    try:
        tests: dict[str, dict[str, Any]] = json.loads(text)
        return {name: Expectation(**fields) for name, fields in tests.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise LocalClusterError(f"expected.json is not a table of expectations by test: {error}") from error


def differences(expected: Expectation, actual: Result) -> list[str]:
    """Say where they differ, one phrase each; nothing when they agree."""
    pairs = [
        ("outcome", expected.outcome, actual.outcome),
        ("attempts", expected.attempts, len(actual.outcomes)),
        ("flaky", expected.flaky, actual.is_flaky),
        ("artifacts", list(expected.artifacts), list(actual.artifacts)),
    ]
    found = [f"{what}: {is_now}, not {wanted}" for what, wanted, is_now in pairs if wanted != is_now]
    for log, texts in expected.logs.items():
        found += [f"{log} lacks {text!r}" for text in texts if text not in actual.logs.get(log, "")]
    if expected.no_process_named and actual.processes_left:
        found.append(f"{actual.processes_left} processes are left")
    return found


def describe(expected: Expectation) -> str:
    """An expectation in a few words, for the table."""
    words = [expected.outcome, _count(expected.attempts, "attempt")]
    words += ["flaky"] if expected.flaky else []
    words += [_count(len(expected.artifacts), "artifact")] if expected.artifacts else []
    words += ["logs"] if expected.logs else []
    words += ["nothing left"] if expected.no_process_named else []
    return ", ".join(words)


def describe_result(expected: Expectation, actual: Result) -> str:
    """The result in the same words, as far as it was asked for."""
    words = [actual.outcome or "unfinished", _count(len(actual.outcomes), "attempt")]
    words += ["flaky"] if actual.is_flaky else []
    words += [_count(len(actual.artifacts), "artifact")] if actual.artifacts else []
    words += ["logs"] if expected.logs and actual.logs else []
    words += ["nothing left"] if expected.no_process_named and not actual.processes_left else []
    return ", ".join(words)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
