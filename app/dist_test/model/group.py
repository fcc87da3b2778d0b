"""What the end of one attempt means for its task: over, or tried again."""

from dataclasses import dataclass
from enum import Enum

from dist_test.model.outcome import Outcome

SETUP_FAILURES_ALLOWED = 3  # reliability.md: a budget of its own, never the test's retries


class Ending(Enum):
    """What becomes of a task when one of its attempts has ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True)
class History:
    """What happened to a task before an attempt: how often the test failed, and how often its setup did."""

    failures: int = 0
    setup_failures: int = 0

    def after(self, outcome: Outcome) -> "History":
        """The history that the next attempt starts with."""
        return History(
            failures=self.failures + outcome.is_test_failure,
            setup_failures=self.setup_failures + (outcome is Outcome.SETUP_FAILED),
        )


def ending(outcome: Outcome, before: History, *, max_retries: int, job_is_canceled: bool = False) -> Ending:
    """Say whether the task is over after an attempt with `outcome`, or gets another attempt."""
    if outcome is Outcome.SUCCEEDED:
        return Ending.SUCCEEDED
    if outcome is Outcome.CANCELED:
        return Ending.CANCELED
    if outcome is Outcome.LOST or job_is_canceled:
        return Ending.FAILED
    if outcome is Outcome.SETUP_FAILED:
        return Ending.RETRY if before.setup_failures + 1 < SETUP_FAILURES_ALLOWED else Ending.FAILED
    return Ending.RETRY if before.failures < max_retries else Ending.FAILED
