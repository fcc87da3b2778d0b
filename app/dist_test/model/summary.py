"""The counters of a job: kept up to date by one small change for each attempt that ends."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from dist_test.model.group import Ending, History
from dist_test.model.outcome import Outcome


@dataclass(frozen=True, kw_only=True)
class Counters:
    """How far a job is. A *flaky* task succeeded after failures; a *retrying* one failed and has an attempt to come.

    `flaky_attempts` counts the attempts without success, unfinished ones included, of flaky and retrying tasks: the
    original's `flaky_tasks`. `canceled_tasks` are part of `failed_tasks`.
    """

    total_tasks: int = 0
    finished_tasks: int = 0
    succeeded_tasks: int = 0
    failed_tasks: int = 0
    canceled_tasks: int = 0
    flaky_tasks: int = 0
    retrying_tasks: int = 0
    total_attempts: int = 0
    finished_attempts: int = 0
    succeeded_attempts: int = 0
    timed_out_attempts: int = 0
    retried_attempts: int = 0
    flaky_attempts: int = 0

    @classmethod
    def of_new_job(cls, tasks: int) -> "Counters":
        """The counters of a job of `tasks` tasks before anything has run."""
        return cls(total_tasks=tasks, total_attempts=tasks)

    @property
    def is_finished(self) -> bool:
        return self.finished_tasks == self.total_tasks

    @property
    def failed_attempts(self) -> int:
        return self.finished_attempts - self.succeeded_attempts

    @property
    def unfinished_attempts(self) -> int:
        return self.total_attempts - self.finished_attempts

    def __add__(self, other: "Counters") -> "Counters":
        # Not asdict, which copies every value: a cancel adds up a job's attempts while nobody else can submit.
        theirs = vars(other)
        return Counters(**{name: value + theirs[name] for name, value in vars(self).items()})


COUNTER_NAMES = tuple(field.name for field in fields(Counters))


def change(*, attempt: int, outcome: Outcome, before: History, end: Ending) -> Counters:
    """The change that the end of attempt number `attempt` makes to its job's counters.

    With `end` RETRY the next attempt's row is counted as well. `before` is the history the attempt started with.
    """
    retry, succeeded = end is Ending.RETRY, end is Ending.SUCCEEDED
    was_retrying = before.failures > 0
    is_retrying = retry and before.after(outcome).failures > 0
    is_flaky = succeeded and was_retrying
    return Counters(
        finished_tasks=int(not retry),
        succeeded_tasks=int(succeeded),
        failed_tasks=int(not retry and not succeeded),
        canceled_tasks=int(end is Ending.CANCELED),
        flaky_tasks=int(is_flaky),
        retrying_tasks=int(is_retrying) - int(was_retrying),
        total_attempts=int(retry),
        finished_attempts=1,
        succeeded_attempts=int(outcome is Outcome.SUCCEEDED),
        timed_out_attempts=int(outcome is Outcome.TIMED_OUT),
        retried_attempts=int(retry),
        # Attempts 0..attempt have run. While retrying, the one to come counts too; when flaky, the last one succeeded.
        flaky_attempts=_unsuccessful(attempt, is_retrying, is_flaky) - (attempt + 1 if was_retrying else 0),
    )


def _unsuccessful(attempt: int, is_retrying: bool, is_flaky: bool) -> int:
    if is_retrying:
        return attempt + 2
    return attempt if is_flaky else 0


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """What a recount needs to know of one attempt. `outcome` is None while it is unfinished."""

    index: int
    attempt: int
    outcome: Outcome | None


def recount(attempts: Iterable[AttemptRecord]) -> Counters:
    """Count from the attempts themselves, all of one job: what the maintained counters must equal."""
    tasks: dict[int, list[AttemptRecord]] = {}
    for record in sorted(attempts, key=lambda item: (item.index, item.attempt)):
        tasks.setdefault(record.index, []).append(record)
    return sum((_count_task(records) for records in tasks.values()), Counters())


def _count_task(records: list[AttemptRecord]) -> Counters:
    outcomes = [record.outcome for record in records]
    last = outcomes[-1]
    failed_before = any(outcome is not None and outcome.is_test_failure for outcome in outcomes)
    succeeded = last is Outcome.SUCCEEDED
    retrying, flaky = last is None and failed_before, succeeded and failed_before
    return Counters(
        total_tasks=1,
        finished_tasks=int(last is not None),
        succeeded_tasks=int(succeeded),
        failed_tasks=int(last is not None and not succeeded),
        canceled_tasks=int(last is Outcome.CANCELED),
        flaky_tasks=int(flaky),
        retrying_tasks=int(retrying),
        total_attempts=len(outcomes),
        finished_attempts=sum(outcome is not None for outcome in outcomes),
        succeeded_attempts=outcomes.count(Outcome.SUCCEEDED),
        timed_out_attempts=outcomes.count(Outcome.TIMED_OUT),
        retried_attempts=len(outcomes) - 1,
        flaky_attempts=sum(outcome is not Outcome.SUCCEEDED for outcome in outcomes) if retrying or flaky else 0,
    )
