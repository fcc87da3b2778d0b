"""The judge: a run that is right passes, and each way to be wrong is seen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dist_test.model.outcome import Outcome

from .saboteur import Happened
from .schedule import Fault, Kind
from .verdict import (
    Attempt,
    Holder,
    wrong_endings,
    wrong_executions,
    wrong_logs,
    wrong_setup,
    wrong_takeovers,
)
from .workload import BY_NAME

PASSED, FAILED, UNSET = Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SETUP_FAILED
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ATTEMPT = Attempt(
    job_id="j",
    index=0,
    task_id="a.0",
    number=0,
    sort=BY_NAME["passes"],
    outcome=PASSED,
    claim=1,
    takeovers=0,
    started_at=NOON,
    finished_at=NOON + timedelta(seconds=1),
    logs_lost=False,
    sizes={"stdout": None, "stderr": None, "artifacts.zip": None},
    holders=(Holder(at=NOON, slave="slave-0", released=False),),
    executions=1,
)
FAILURE = replace(
    ATTEMPT,
    sort=BY_NAME["fails"],
    outcome=FAILED,
    sizes={"stdout": 3, "stderr": 4, "artifacts.zip": None},
)
STORED = {"j/a.0/0/1/stdout": 3, "j/a.0/0/1/stderr": 4}


def _happened(target: str, *, after: float = 0, kind: Kind = Kind.KILL) -> Happened:
    begin = NOON + timedelta(seconds=after)
    fault = Fault(at_seconds=0, target=target, kind=kind, lasts_seconds=1)
    return Happened(fault=fault, began=begin, ended=begin + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("sort", "outcomes", "wrong"),
    [
        ("passes", [PASSED], None),
        ("passes", [UNSET, UNSET, PASSED], None),
        ("flaky", [FAILED, PASSED], None),
        ("flaky", [UNSET, PASSED], None),
        ("fails", [FAILED, UNSET, FAILED, FAILED], None),
        ("passes", [FAILED], "attempt 0 ended failed, right is succeeded"),
        ("passes", [None], "attempt 0 ended None, right is succeeded"),
        ("passes", [PASSED, PASSED], "attempt 1 came after the end"),
        ("passes", [UNSET, UNSET, UNSET], "3 setups failed, and the schedule leaves room for two"),
        ("passes", [Outcome.LOST], "attempt 0 ended lost, right is succeeded"),
        ("flaky", [FAILED], "it ended after 1 attempts and 1 failures"),
        ("fails", [FAILED, FAILED], "it ended after 2 attempts and 2 failures"),
        ("fails", [FAILED, FAILED, FAILED, FAILED], "attempt 3 came after the end"),
    ],
)
def test_a_task_must_end_as_its_script_says(sort: str, outcomes: Sequence[Outcome | None], wrong: str | None) -> None:
    attempts = [
        replace(ATTEMPT, sort=BY_NAME[sort], number=number, outcome=outcome) for number, outcome in enumerate(outcomes)
    ]
    expected = [] if wrong is None else [f"{attempts[-1]}: {wrong}"]
    assert [one.reason for one in wrong_endings(attempts)] == expected


def test_an_attempt_that_is_missing_is_seen() -> None:
    second = replace(ATTEMPT, number=1)
    assert [one.attempt for one in wrong_endings([second])] == [second]


def test_a_lease_may_lapse_only_when_something_happened_to_its_slave_or_the_database() -> None:
    taken = Holder(at=NOON + timedelta(seconds=9), slave="slave-1", released=False)
    lapsed = replace(ATTEMPT, holders=(*ATTEMPT.holders, taken))
    handed_back = replace(taken, at=NOON + timedelta(seconds=5), slave="slave-0", released=True)
    assert len(list(wrong_takeovers(lapsed, [_happened("slave-1"), _happened("s3")]))) == 1
    assert len(list(wrong_takeovers(lapsed, [_happened("slave-0", after=-3), _happened("mariadb", after=10)]))) == 1
    assert list(wrong_takeovers(lapsed, [_happened("slave-0", after=2)])) == []
    assert list(wrong_takeovers(lapsed, [_happened("mariadb", after=-0.5)])) == []
    assert list(wrong_takeovers(replace(lapsed, holders=(*ATTEMPT.holders, handed_back, taken)), [])) == []


def test_each_execution_needs_a_claim_and_each_ending_an_execution() -> None:
    ran: Counter[tuple[str, ...]] = Counter({("j", "a.0", "0"): 1})
    assert list(wrong_executions([ATTEMPT], ran)) == []
    assert len(list(wrong_executions([replace(ATTEMPT, executions=2)], ran))) == 1
    assert len(list(wrong_executions([replace(ATTEMPT, executions=0)], ran))) == 1
    assert list(wrong_executions([replace(ATTEMPT, executions=0, outcome=UNSET)], ran)) == []
    assert len(list(wrong_executions([], ran))) == 1


def test_logs_must_be_stored_under_the_claim_that_won() -> None:
    assert list(wrong_logs(FAILURE, STORED, [])) == []
    assert list(wrong_logs(ATTEMPT, {}, [])) == []
    assert len(list(wrong_logs(replace(FAILURE, claim=2), STORED, []))) == 2
    assert len(list(wrong_logs(FAILURE, STORED | {"j/a.0/0/1/stderr": 5}, []))) == 1
    assert len(list(wrong_logs(replace(FAILURE, sort=BY_NAME["slow-flaky"]), STORED, []))) == 1, "no artifact"


def test_logs_may_be_lost_only_while_s3_is_away() -> None:
    lost = replace(FAILURE, logs_lost=True, sizes=dict.fromkeys(FAILURE.sizes))
    assert list(wrong_logs(lost, {}, [_happened("s3")])) == []
    assert len(list(wrong_logs(lost, {}, [_happened("mariadb"), _happened("s3", after=9)]))) == 1


def test_a_setup_may_fail_only_while_the_isolate_server_is_away() -> None:
    unset = replace(ATTEMPT, outcome=UNSET, executions=0)
    assert list(wrong_setup(unset, [_happened("isolate")])) == []
    assert len(list(wrong_setup(unset, [_happened("slave-0")]))) == 1
