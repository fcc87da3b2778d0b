"""Cancel: terminal at once, out of the tube, and paid for only as far as it ran."""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from dist_test.errors import JobNotFound, JobNotRunning, QueueUnavailable
from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry
from dist_test.storage.cancels import Canceled
from dist_test.storage.claims import Refusal
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue

from .conftest import Hand, job

MakeHand = Callable[..., Hand]
Take = Callable[[], QueueEntry]


def test_a_canceled_job_is_over_and_out_of_the_tube(service: Service, hand: MakeHand, take: Take, queue: Queue) -> None:
    service.submit(job("one", "two", "three", max_retries=2))
    running = hand("a").claim(take())
    record = service.cancel("job", "wrong branch")
    assert (record.state, record.result, record.cancel_reason) == ("finished", "canceled", "wrong branch")
    assert record.counters.canceled_tasks == 3
    assert queue.statistics().ready == 0
    answer = hand("a").claims.renew([running], busy=1, state="up", message="")
    assert answer.canceled == {running}


def test_a_canceled_task_is_not_revived_by_a_late_finish(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", max_retries=2))
    entry, a = take(), hand("a")
    claim = a.claim(entry)
    before = service.cancel("job", "enough")
    assert a.finish(claim, Outcome.FAILED, exit_status=1).counted == frozenset()
    assert service.jobs.get("job") == before
    assert a.claims.claim(entry) is Refusal.OVER


def test_what_had_ended_before_a_cancel_stays_as_it_was(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", "two"))
    a = hand("a")
    a.finish(a.claim(take()))
    record = service.cancel("job", "enough")
    assert (record.counters.succeeded_tasks, record.counters.canceled_tasks) == (1, 1)


def test_unknown_and_ended_jobs_cannot_be_canceled(service: Service, hand: MakeHand, take: Take) -> None:
    with pytest.raises(JobNotFound, match="no job has the id nothing"):
        service.cancel("nothing", "x")
    service.submit(job("one"))
    a = hand("a")
    a.finish(a.claim(take()))
    with pytest.raises(JobNotRunning, match="job job has ended already"):
        service.cancel("job", "x")


def test_a_cancel_is_a_success_while_beanstalkd_is_away(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: Canceled) -> None:
        raise QueueUnavailable("beanstalkd is away")

    service.submit(job("one"))
    monkeypatch.setattr(service, "clear_queue", away)
    assert service.cancel("job", "enough").result == "canceled"
    assert "stay in the tube" in caplog.text


def test_ids_of_another_server_are_not_deleted_blindly(service: Service, queue: Queue, database: Database) -> None:
    service.submit(job("one"))
    stranger = queue.put("somebody else's", priority=1)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE attempts SET queue_server = 'old', queue_entry = :id"), {"id": stranger})
    service.cancel("job", "enough")
    assert queue.peek_all([stranger]) == ["somebody else's"]


def test_submitting_and_canceling_in_a_loop_gains_and_costs_nothing(service: Service, database: Database) -> None:
    service.submit(job("keep", job_id="keep", owner="bob"))
    for number in range(5):
        service.submit(job("one", "two", job_id=f"j{number}"))
        service.cancel(f"j{number}", "again")
    with database.engine.connect() as connection:
        share = connection.execute(text("SELECT finish_tag FROM fair_share WHERE owner = 'ann'")).scalar_one()
    assert share == 0.0


def test_work_done_stays_paid_for(service: Service, hand: MakeHand, take: Take, database: Database) -> None:
    service.submit(job("keep", job_id="keep", owner="bob"))
    service.submit(job("one", "two", "three", job_id="j"))
    a = hand("a")
    for _ in range(3):
        a.claim(take())
    service.cancel("j", "enough")
    with database.engine.connect() as connection:
        share = connection.execute(text("SELECT finish_tag FROM fair_share WHERE owner = 'ann'")).scalar_one()
    assert share == 60.0  # of three tasks of 30 s each, two had begun; bob's one ran between them


def test_a_job_waiting_behind_the_canceled_one_moves_up(service: Service, take: Take, queue: Queue) -> None:
    service.submit(job(*["big"] * 50, job_id="big", owner="ann"))
    service.submit(job(*["other"] * 50, job_id="other", owner="bob"))
    service.submit(job("behind", job_id="behind", owner="ann"))
    service.cancel("big", "wrong branch")
    assert queue.statistics().ready == 51
    entries = [take() for _ in range(2)]
    assert "behind" in [entry.task.description for entry in entries]
    [moved] = [entry for entry in entries if entry.job_id == "behind"]
    assert moved.delivery == 2
