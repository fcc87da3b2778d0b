"""How an attempt ends, and what the original's clients are told about it."""

from enum import StrEnum


class Outcome(StrEnum):
    """The end of an attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # the command ended by itself, with another exit code than 0 or by a signal
    TIMED_OUT = "timed_out"
    CANCELED = "canceled"
    SETUP_FAILED = "setup_failed"  # the command never ran, through no fault of the test
    LOST = "lost"  # the attempt killed its slave again and again

    @property
    def is_test_failure(self) -> bool:
        """Whether the test itself is to blame: only then are its retries used up."""
        return self in (Outcome.FAILED, Outcome.TIMED_OUT)

    @property
    def is_measured(self) -> bool:
        """Whether the duration says something about the next run: the task ran to its end or to its limit."""
        return self in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.TIMED_OUT)


# scheduling.md, "What the wire says": these four are the original's, and mean no exit code.
_WIRE = {Outcome.TIMED_OUT: -9, Outcome.CANCELED: -1, Outcome.SETUP_FAILED: -2, Outcome.LOST: -2}
_TAKEN_SIGNALS = (-1, -2, -9)


def wire_status(outcome: Outcome | None, exit_status: int | None) -> int | None:
    """The `status` that the original's clients know: None while unfinished, 0, an exit code, or minus a signal.

    `exit_status` is the exit code, or minus the number of the signal that ended the command. Death by SIGHUP, SIGINT
    or SIGKILL comes out as 128 + signal, as a shell says it: -1, -2 and -9 mean something else on the wire.
    """
    if outcome is None:
        return None
    if outcome in _WIRE:
        return _WIRE[outcome]
    if outcome is Outcome.SUCCEEDED:
        return 0
    if exit_status in _TAKEN_SIGNALS:
        return 128 - exit_status
    return exit_status or 1
