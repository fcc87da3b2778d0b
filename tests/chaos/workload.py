"""The tasks of a run, whose endings are known in advance."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_test.model.group import SETUP_FAILURES_ALLOWED
from dist_test.model.outcome import Outcome

ARTIFACT = "result.xml"


@dataclass(frozen=True, kw_only=True)
class Sort:
    """A sort of task: its first `failures` attempts fail, all others succeed. None: all fail."""

    name: str
    share: float
    failures: int | None = 0
    max_retries: int = 0
    sleeps_seconds: float = 0.0
    has_artifact: bool = False

    def outcome(self, attempt: int) -> Outcome:
        """How attempt number `attempt`, from 0, ends when it runs."""
        fails = self.failures is None or attempt < self.failures
        return Outcome.FAILED if fails else Outcome.SUCCEEDED

    def script(self, marks: Path, salt: int) -> str:
        """A shell script that leaves a line in `marks`, which all task users may append to, and ends as it must."""
        verdict = "exit 3" if self.failures is None else f"[ $DIST_TEST_ATTEMPT -ge {self.failures} ]"
        return "\n".join(
            (
                f"# {self.name} {salt}",
                f'echo "$DIST_TEST_JOB_ID $DIST_TEST_TASK_ID $DIST_TEST_ATTEMPT $USER" >> {marks}',
                "echo out of attempt $DIST_TEST_ATTEMPT; echo err of attempt $DIST_TEST_ATTEMPT >&2",
                f"sleep {self.sleeps_seconds}" if self.sleeps_seconds else ":",
                f"echo '<testsuite tests=\"{salt}\"/>' > {ARTIFACT}" if self.has_artifact else ":",
                verdict,
            )
        )

    def what_is_wrong(self, outcomes: Sequence[Outcome | None]) -> str | None:
        """Say how a task's attempts differ from what is right; None when they do not.

        A failed setup uses up no attempt of the test, and the schedule leaves no room for as many as end a task.
        """
        failures = setup_failures = 0
        is_over = False
        for attempt, outcome in enumerate(outcomes):
            if is_over:
                return f"attempt {attempt} came after the end"
            if outcome is Outcome.SETUP_FAILED:
                setup_failures += 1
            elif outcome is not self.outcome(attempt):
                return f"attempt {attempt} ended {outcome}, right is {self.outcome(attempt)}"
            failures += outcome is Outcome.FAILED
            is_over = outcome is Outcome.SUCCEEDED or failures > self.max_retries
        if setup_failures >= SETUP_FAILURES_ALLOWED:
            return f"{setup_failures} setups failed, and the schedule leaves room for two"
        return None if is_over else f"it ended after {len(outcomes)} attempts and {failures} failures"


SORTS = (
    Sort(name="passes", share=0.2),
    Sort(name="slow", share=0.4, sleeps_seconds=0.5),
    Sort(name="artifact", share=0.1, has_artifact=True),
    Sort(name="flaky", share=0.1, failures=1, max_retries=2),
    Sort(name="flaky-twice", share=0.05, failures=2, max_retries=2),
    Sort(name="slow-flaky", share=0.05, failures=1, max_retries=3, sleeps_seconds=0.5, has_artifact=True),
    Sort(name="fails", share=0.05, failures=None, max_retries=2),
    Sort(name="fails-at-once", share=0.05, failures=None),
)
BY_NAME = {sort.name: sort for sort in SORTS}


def shuffled(seed: int, tasks: int) -> list[Sort]:
    """So many tasks of all sorts, in the seed's order."""
    rng = random.Random(seed)
    return rng.choices(SORTS, weights=[sort.share for sort in SORTS], k=tasks)


def documents(sorts: Sequence[Sort], digests: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """The tasks as they are submitted, each with one of the isolates of its sort."""
    for number, sort in enumerate(sorts):
        choices = digests[sort.name]
        yield {
            "isolate_hash": choices[number % len(choices)],
            "description": f"{sort.name} {number}",
            "max_retries": sort.max_retries,
            "artifact_archive_globs": [ARTIFACT] if sort.has_artifact else [],
        }
