"""The maintained counters equal a recount, whatever happens in whatever order."""

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dist_test.model.group import Ending, History, ending
from dist_test.model.outcome import Outcome
from dist_test.model.summary import AttemptRecord, Counters, change, recount


@dataclass
class _Task:
    max_retries: int
    outcomes: list[Outcome] = field(default_factory=list)
    history: History = field(default_factory=History)
    is_over: bool = False


class JobMachine(RuleBasedStateMachine):
    """A job of a few tasks: attempts end in any order with any outcome, and the rest may be canceled at any time."""

    @initialize(retries=st.lists(st.integers(0, 3), min_size=1, max_size=5))
    def submit(self, retries: list[int]) -> None:
        self.tasks = [_Task(max_retries=number) for number in retries]
        self.counters = Counters.of_new_job(len(retries))

    @precondition(lambda self: any(not task.is_over for task in self.tasks))
    @rule(data=st.data(), outcome=st.sampled_from([o for o in Outcome if o is not Outcome.CANCELED]))
    def finish(self, data: st.DataObject, outcome: Outcome) -> None:
        task = data.draw(st.sampled_from([task for task in self.tasks if not task.is_over]))
        self._end(task, outcome, ending(outcome, task.history, max_retries=task.max_retries))

    @rule()
    def cancel(self) -> None:
        for task in self.tasks:
            if not task.is_over:
                self._end(task, Outcome.CANCELED, Ending.CANCELED)

    def _end(self, task: _Task, outcome: Outcome, end: Ending) -> None:
        self.counters += change(attempt=len(task.outcomes), outcome=outcome, before=task.history, end=end)
        task.outcomes.append(outcome)
        task.history = task.history.after(outcome)
        task.is_over = end is not Ending.RETRY

    @invariant()
    def counters_equal_a_recount(self) -> None:
        assert self.counters == recount(self._records())

    @invariant()
    def finished_is_when_every_task_is(self) -> None:
        assert self.counters.is_finished == all(task.is_over for task in self.tasks)

    def _records(self) -> list[AttemptRecord]:
        records = []
        for index, task in enumerate(self.tasks):
            outcomes = [*task.outcomes, *([] if task.is_over else [None])]
            records += [
                AttemptRecord(index=index, attempt=number, outcome=outcome) for number, outcome in enumerate(outcomes)
            ]
        return records


JobMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
TestJobCounters = JobMachine.TestCase


def test_a_flaky_task_is_a_success_that_is_marked() -> None:
    counters = Counters.of_new_job(1)
    counters += change(attempt=0, outcome=Outcome.FAILED, before=History(), end=Ending.RETRY)
    assert (counters.retrying_tasks, counters.flaky_tasks, counters.flaky_attempts) == (1, 0, 2)
    counters += change(attempt=1, outcome=Outcome.SUCCEEDED, before=History(failures=1), end=Ending.SUCCEEDED)
    assert counters == replace(
        Counters.of_new_job(1),
        finished_tasks=1,
        succeeded_tasks=1,
        flaky_tasks=1,
        total_attempts=2,
        finished_attempts=2,
        succeeded_attempts=1,
        retried_attempts=1,
        flaky_attempts=1,
    )
