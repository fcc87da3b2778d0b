"""Leases and fences: who may run an attempt, and whose result counts."""

from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from sqlalchemy import text

from dist_test.errors import SlaveNotFound
from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.storage.claims import Claim, Refusal
from dist_test.storage.database import Affected, Database
from dist_test.storage.slaves import SlaveDescription, Slaves

from .conftest import Hand, job

MakeHand = Callable[..., Hand]
Take = Callable[[], QueueEntry]
Lapse = Callable[[], None]


def test_an_attempt_is_claimed_by_one_slave_only(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one"))
    entry = take()
    assert isinstance(hand("a").claims.claim(entry), Claim)
    assert hand("b").claims.claim(entry) is Refusal.LEASED


def test_a_late_slaves_result_logs_retry_and_counters_have_no_effect(
    service: Service, hand: MakeHand, take: Take, let_lapse: Lapse
) -> None:
    service.submit(job("one", max_retries=3))
    entry, a, b = take(), hand("a"), hand("b")
    late = a.claim(entry)
    let_lapse()
    winner = b.claim(entry)
    assert b.finish(winner, stdout_bytes=1).counted == {winner}
    before = service.jobs.get("job")

    recorded = a.finish(late, Outcome.FAILED, exit_status=1, stdout_bytes=99)

    assert (recorded.counted, recorded.retried) == (frozenset(), ())
    assert service.jobs.get("job") == before
    [attempt] = service.jobs.attempts(before.job_key)
    assert (attempt.outcome, attempt.claim, attempt.stdout_bytes) == (Outcome.SUCCEEDED, winner.number, 1)


def test_a_late_slave_is_told_before_it_finishes(
    service: Service, hand: MakeHand, take: Take, let_lapse: Lapse
) -> None:
    service.submit(job("one"))
    entry, a, b = take(), hand("a"), hand("b")
    late = a.claim(entry)
    let_lapse()
    b.claim(entry)
    answer = a.claims.renew([late], busy=1, state="up", message="")
    assert (answer.lost, answer.canceled) == (frozenset({late}), frozenset())


def test_a_duplicate_entry_does_not_disturb_the_slave_that_runs_it(
    service: Service, hand: MakeHand, take: Take
) -> None:
    service.submit(job("one"))
    entry, a, b = take(), hand("a"), hand("b")
    mine = a.claim(entry)
    assert b.claims.claim(entry) is Refusal.LEASED
    assert a.claims.renew([mine], busy=1, state="up", message="").lost == frozenset()
    assert a.finish(mine).counted == {mine}
    assert b.claims.claim(entry) is Refusal.OVER


def test_a_renewed_lease_outlives_its_first_end(service: Service, hand: MakeHand, take: Take, let_lapse: Lapse) -> None:
    service.submit(job("one"))
    entry, a = take(), hand("a")
    claim = a.claim(entry)
    let_lapse()
    a.claims.renew([claim], busy=1, state="up", message="")
    assert hand("b").claims.claim(entry) is Refusal.LEASED


def test_an_older_delivery_is_void(service: Service, hand: MakeHand, take: Take) -> None:
    record, _ = service.submit(job("one"))
    entry = take()
    [[item]] = list(service.entries.waiting_of_job(record.job_key))
    [raised] = service.entries.raise_delivery([item], reason="test")
    assert hand("a").claims.claim(entry) is Refusal.OVER
    assert isinstance(hand("a").claims.claim(raised.entry), Claim)


def test_after_three_takeovers_an_attempt_is_poison(
    service: Service, hand: MakeHand, take: Take, let_lapse: Lapse
) -> None:
    service.submit(job("one", max_retries=5))
    entry = take()
    for name in "abcd":
        hand(name).claim(entry)
        let_lapse()
    last = hand("e")
    assert last.claims.claim(entry) is Refusal.POISON
    assert last.finishes.record_lost(entry)
    assert not last.finishes.record_lost(entry)
    record = service.jobs.get("job")
    [attempt] = service.jobs.attempts(record.job_key)
    assert (attempt.outcome, attempt.status, record.result) == (Outcome.LOST, -2, "failed")
    assert attempt.message is not None
    assert "4 slaves in a row vanished" in attempt.message


def test_a_released_attempt_is_free_at_once_and_no_takeover(
    service: Service, hand: MakeHand, take: Take, database: Database
) -> None:
    service.submit(job("one"))
    entry, a = take(), hand("a")
    for _ in range(5):
        assert a.claims.release(a.claim(entry), "drained")
    hand("b").claim(entry)
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT takeovers FROM attempts")).scalar_one() == 0


def test_a_result_after_the_release_does_not_count(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one"))
    a = hand("a")
    claim = a.claim(take())
    a.claims.release(claim, "drained")
    assert a.finish(claim).counted == frozenset()
    assert service.jobs.get("job").state == "running"


def test_a_claim_repeated_after_a_lost_answer_is_still_ours(
    service: Service,
    hand: MakeHand,
    take: Take,
    database: Database,
    slave_database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service.submit(job("one"))
    entry, a = take(), hand("a")
    real_run = slave_database.run_script

    def run_twice(script: str, values: Mapping[str, object]) -> Affected:
        real_run(script, values)  # committed, but the answer got lost
        return real_run(script, values)

    monkeypatch.setattr(slave_database, "run_script", run_twice)
    claim = a.claims.claim(entry)
    monkeypatch.undo()
    assert claim == Claim(key=entry.key, number=2)
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT takeovers FROM attempts")).scalar_one() == 0


def test_a_retry_avoids_the_slave_that_failed_while_another_is_up(
    service: Service, hand: MakeHand, take: Take, slave_database: Database
) -> None:
    service.submit(job("one", max_retries=1))
    a = hand("a")
    first = a.claim(take())
    a.finish(first, Outcome.FAILED, exit_status=1)
    service.retry("job", f"{'a' * 40}.0", 0, first.number)
    retry = take()
    assert retry.avoid == ("a",)
    assert not a.claims.must_avoid(retry), "it is the only slave"
    other = SlaveDescription(slave_id="b", instance_id="", zone="", mig="", template="", slots=1, version="1")
    Slaves(slave_database).register(other)
    assert [a.claims.must_avoid(retry) for _ in range(11)] == [True] * 10 + [False]
    assert not hand("b").claims.must_avoid(retry)


def test_heartbeats_keep_the_slaves_row(slave_database: Database, master_database: Database, hand: MakeHand) -> None:
    slaves, a = Slaves(master_database), hand("a", timedelta(seconds=5))
    assert a.claims.renew([], busy=0, state="up", message="").want is None
    Slaves(slave_database).register(
        SlaveDescription(slave_id="a", instance_id="i", zone="z", mig="m", template="t", slots=2, version="1")
    )
    assert a.claims.renew([], busy=1, state="up", message="").want == "run"
    [busy] = slaves.all()
    assert (busy.busy, busy.idle_since, busy.is_live) == (1, None, True)
    slaves.want("a", "drain")
    with pytest.raises(SlaveNotFound, match="no slave has the id b; there is: a"):
        slaves.want("b", "drain")
    assert a.claims.renew([], busy=0, state="draining", message="why").want == "drain"
    [idle] = slaves.all()
    assert (idle.state, idle.want, idle.message) == ("draining", "drain", "why")
    assert idle.idle_since is not None
