"""When a task is over, and when it is tried again."""

import pytest

from dist_test.model.group import Ending, History, ending
from dist_test.model.outcome import Outcome

NEVER = History()


@pytest.mark.parametrize(
    ("outcome", "before", "max_retries", "end"),
    [
        pytest.param(Outcome.SUCCEEDED, NEVER, 3, Ending.SUCCEEDED, id="success ends it"),
        pytest.param(Outcome.FAILED, NEVER, 0, Ending.FAILED, id="no retries"),
        pytest.param(Outcome.FAILED, NEVER, 1, Ending.RETRY, id="first failure of two tries"),
        pytest.param(Outcome.FAILED, History(failures=1), 1, Ending.FAILED, id="retries used up"),
        pytest.param(Outcome.TIMED_OUT, NEVER, 1, Ending.RETRY, id="a time-out is a failure"),
        pytest.param(Outcome.CANCELED, NEVER, 5, Ending.CANCELED, id="canceled is final"),
        pytest.param(Outcome.LOST, NEVER, 5, Ending.FAILED, id="lost is final"),
        pytest.param(Outcome.SETUP_FAILED, NEVER, 0, Ending.RETRY, id="setup has a budget of its own"),
        pytest.param(Outcome.SETUP_FAILED, History(setup_failures=2), 9, Ending.FAILED, id="which is three"),
        pytest.param(Outcome.FAILED, History(setup_failures=2), 1, Ending.RETRY, id="and costs no retry"),
    ],
)
def test_ending_of_a_task(outcome: Outcome, before: History, max_retries: int, end: Ending) -> None:
    assert ending(outcome, before, max_retries=max_retries) is end


def test_nothing_of_a_canceled_job_is_tried_again() -> None:
    assert ending(Outcome.FAILED, NEVER, max_retries=5, job_is_canceled=True) is Ending.FAILED


def test_only_the_tests_own_failures_use_up_retries() -> None:
    history = NEVER.after(Outcome.FAILED).after(Outcome.SETUP_FAILED).after(Outcome.TIMED_OUT)
    assert history == History(failures=2, setup_failures=1)
