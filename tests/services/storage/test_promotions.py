"""A promoted job goes before all others, keeps its own order, and is paid for."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from dist_test.errors import JobNotFound, JobNotRunning, QueueUnavailable
from dist_test.master.promote import run_promote
from dist_test.master.reconciler import Reconciler
from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from dist_test.model.schedule import PROMOTED_FIRST_BAND, RETRY_BAND, RETRY_TOP
from dist_test.model.task import AttemptKey, QueueEntry
from dist_test.settings import BeanstalkSettings, MasterSettings
from dist_test.storage.claims import Claim
from dist_test.storage.database import Database
from dist_test.storage.durations import Durations, Observation
from dist_test.storage.leader import Leadership
from dist_test.storage.queue import Queue, Queues
from dist_test.storage.schema import AnyRow
from dist_test.storage.slaves import SlaveDescription, Slaves

from .conftest import Hand, job

MakeHand = Callable[..., Hand]
Take = Callable[[], QueueEntry]
SLAVE = SlaveDescription(slave_id="a", instance_id="", zone="", mig="", template="", slots=4, version="1")


@pytest.fixture
def rows(database: Database) -> Callable[..., list[AnyRow]]:
    """Rows, straight from the database."""

    def read(statement: str, **values: object) -> list[AnyRow]:
        with database.engine.connect() as connection:
            return list(connection.execute(text(statement), values))

    return read


@pytest.fixture
def share_of(rows: Callable[..., list[AnyRow]]) -> Callable[[str], float]:
    """Where an owner's next job would begin, in virtual seconds."""
    return lambda owner: float(
        rows("SELECT finish_tag FROM fair_share WHERE owner = :owner", owner=owner)[0].finish_tag
    )


def _learn(database: Database, seconds: dict[str, float]) -> None:
    observed = [Observation(project="", description=name, seconds=each) for name, each in seconds.items()]
    Durations(database).observe(observed)


def _drain(queue: Queue) -> list[QueueEntry]:
    found = []
    while (reservation := queue.reserve(timeout_seconds=0)) is not None:
        found.append(QueueEntry.from_body(reservation.body))
    return found


def test_a_promoted_job_is_reserved_before_all_others_longest_first(
    service: Service, queue: Queue, slave_database: Database
) -> None:
    _learn(slave_database, {f"t{number}": float(number) for number in range(1, 30)})
    service.submit(job(*["big"] * 50, job_id="big", owner="bob"))
    service.submit(job(*[f"t{number}" for number in range(1, 30)], job_id="late"))
    promoted, put_again = service.promote("late")
    order = [entry.task.description for entry in _drain(queue)]
    assert order == [f"t{number}" for number in range(29, 0, -1)] + ["big"] * 50
    assert (len(promoted.waiting), promoted.running, put_again) == (29, 0, 0)
    assert promoted.seconds == sum(range(1, 30))


def test_each_moved_entry_is_of_the_next_delivery_and_the_old_ones_are_gone(
    service: Service, queue: Queue, rows: Callable[..., list[AnyRow]]
) -> None:
    service.submit(job("one", "two"))
    service.promote("job")
    assert queue.statistics().ready == 2
    assert [entry.delivery for entry in _drain(queue)] == [2, 2]
    assert all(row.priority < RETRY_BAND for row in rows("SELECT priority FROM attempts"))


def test_every_moved_attempt_has_an_event_and_so_has_the_job(
    service: Service, rows: Callable[..., list[AnyRow]]
) -> None:
    service.submit(job("one", "two"))
    service.promote("job")
    found = rows("SELECT task_index, delivery, detail FROM events WHERE kind = 'promoted' ORDER BY event_id")
    assert [tuple(row) for row in found] == [(None, None, "2 waiting attempts"), (0, 2, None), (1, 2, None)]


def test_promoting_again_changes_nothing(service: Service, queue: Queue, rows: Callable[..., list[AnyRow]]) -> None:
    service.submit(job("one", "two"))
    service.promote("job")
    before = rows("SELECT priority, delivery, queue_entry FROM attempts"), rows("SELECT event_id FROM events")
    promoted, put_again = service.promote("job")
    assert (promoted.waiting, promoted.running, put_again) == ((), 0, 0)
    assert before == (rows("SELECT priority, delivery, queue_entry FROM attempts"), rows("SELECT event_id FROM events"))
    assert queue.statistics().ready == 2


def test_a_retry_of_a_promoted_job_goes_before_its_first_attempts(
    service: Service, hand: MakeHand, take: Take, rows: Callable[..., list[AnyRow]]
) -> None:
    service.submit(job("other", job_id="other", owner="bob"))
    service.submit(job("one", "two", "three", max_retries=3))
    service.promote("job")
    a = hand("a")
    entry = take()
    claim = a.claim(entry)
    a.finish(claim, Outcome.FAILED, exit_status=1)
    service.retry("job", entry.task_id, 0, claim.number)
    again = take()
    assert (again.key.task, again.key.attempt) == (entry.key.task, 1)
    [row] = rows("SELECT priority FROM attempts WHERE attempt = 1")
    assert row.priority == PROMOTED_FIRST_BAND - 1


def test_a_retry_of_what_ran_when_its_job_was_promoted_goes_ahead_as_well(
    service: Service, hand: MakeHand, take: Take, rows: Callable[..., list[AnyRow]]
) -> None:
    service.submit(job("one", max_retries=1))
    a = hand("a")
    claim = a.claim(take())
    promoted, _ = service.promote("job")
    assert (promoted.waiting, promoted.running) == ((), 1)
    a.finish(claim, Outcome.FAILED, exit_status=1)
    [row] = rows("SELECT priority, delivery FROM attempts WHERE attempt = 1")
    assert row.priority < PROMOTED_FIRST_BAND
    assert rows("SELECT delivery FROM attempts WHERE attempt = 0")[0].delivery == 1, "its slave's entry is not void"


def test_a_waiting_retry_is_promoted_as_one(service: Service, hand: MakeHand, take: Take) -> None:
    service.submit(job("one", "two", max_retries=1))
    a = hand("a")
    entry = take()
    claim = a.claim(entry)
    a.finish(claim, Outcome.FAILED, exit_status=1)
    service.promote("job")
    assert take().key == entry.key.next()


def test_promoted_attempts_take_no_place_among_the_boosted_retries(
    service: Service, hand: MakeHand, take: Take, rows: Callable[..., list[AnyRow]]
) -> None:
    service.submit(job(*["many"] * 40, job_id="many"))
    service.promote("many")
    service.submit(job("one", job_id="small", max_retries=1))
    [entry] = [entry for entry in [take() for _ in range(41)] if entry.job_id == "small"]
    a = hand("a")
    a.finish(a.claim(entry), Outcome.FAILED, exit_status=1)
    [row] = rows("SELECT priority FROM attempts WHERE attempt = 1")
    assert row.priority == RETRY_TOP - 1


@pytest.mark.parametrize("how", ["finished", "canceled", "unknown", "submitting", "half canceled"])
def test_what_does_not_run_cannot_be_promoted(
    how: str, service: Service, hand: MakeHand, take: Take, database: Database
) -> None:
    expected = {
        "finished": (JobNotRunning, "job job has ended already; there is nothing to promote"),
        "canceled": (JobNotRunning, "job job has ended already; there is nothing to promote"),
        "unknown": (JobNotFound, "no job has the id job"),
        "submitting": (JobNotRunning, "job job is still being submitted; promote it in a moment"),
        "half canceled": (JobNotRunning, r"job job is being canceled \(too many\)"),
    }
    if how != "unknown":
        service.submit(job("one"))
    if how == "finished":
        a = hand("a")
        a.finish(a.claim(take()))
    if how == "canceled":
        service.cancel("job", "enough")
    with database.engine.begin() as connection:
        if how == "submitting":
            connection.execute(text("UPDATE jobs SET state = 'submitting'"))
        if how == "half canceled":
            connection.execute(text("UPDATE jobs SET cancel_reason = 'too many'"))
    kind, message = expected[how]
    with pytest.raises(kind, match=message):
        service.promote("job")


def test_a_crash_after_the_order_changed_is_mended_by_repeating(
    service: Service, queue: Queue, monkeypatch: pytest.MonkeyPatch, slave_database: Database
) -> None:
    _learn(slave_database, {f"t{number}": float(number) for number in range(1, 9)})
    service.submit(job("big", job_id="big", owner="bob"))
    service.submit(job(*[f"t{number}" for number in range(1, 9)]))
    with monkeypatch.context() as patch:
        patch.setattr(service, "put", _crash)
        with pytest.raises(QueueUnavailable):
            service.promote("job")
    promoted, put_again = service.promote("job")
    assert (promoted.waiting, put_again) == ((), 8)
    assert _valid(service, queue) == [f"t{number}" for number in range(8, 0, -1)] + ["big"]


def test_a_crash_before_all_is_put_is_mended_by_the_reconciler(
    service: Service,
    queue: Queue,
    queues: Queues,
    monkeypatch: pytest.MonkeyPatch,
    master_settings: MasterSettings,
    master_database: Database,
) -> None:
    service.submit(job("big", job_id="big", owner="bob"))
    service.submit(job("one", "two", "three"))
    with monkeypatch.context() as patch:
        patch.setattr(service, "put", _crash)
        with pytest.raises(QueueUnavailable):
            service.promote("job")
    leader = Leadership(master_database, "reconciler")
    soon = replace(master_settings, queued_grace=timedelta(0), sweep_every=master_settings.reconcile_every)
    reconciler = Reconciler(soon, service, queues, leader)
    # The void entries hide the loss from the totals: it is the sweep that finds it.
    assert sum(reconciler.round() for _ in range(3)) == 3
    leader.resign()
    assert _valid(service, queue)[-1] == "big"


def test_ten_thousand_attempts_are_promoted_in_seconds(service: Service, queue: Queue) -> None:
    service.submit(job(*["big"] * 10_000, job_id="big", owner="bob"))
    service.submit(job(*[f"t{number}" for number in range(10_000)]))
    started = time.monotonic()
    service.promote("job")
    took = time.monotonic() - started
    print(f"promoted 10,000 attempts in {took:.2f} s")
    assert took < 30, "it takes 2 s on an idle machine"
    assert queue.statistics().ready == 20_000
    assert {QueueEntry.from_body(_next(queue)).job_id for _ in range(50)} == {"job"}


def test_slaves_that_claim_meanwhile_lose_nothing_and_run_nothing_twice(
    service: Service, hand: MakeHand, beanstalk_settings: BeanstalkSettings, rows: Callable[..., list[AnyRow]]
) -> None:
    record, _ = service.submit(job(*[f"t{number}" for number in range(1_000)]))
    begun, ended = threading.Event(), threading.Event()
    ran: list[AttemptKey] = []

    def work(slave: Hand) -> None:
        queue = Queue(beanstalk_settings)
        idle = 0
        while idle < 2 or not ended.is_set():
            reservation = queue.reserve(timeout_seconds=0)
            idle = idle + 1 if reservation is None else 0
            if reservation is None:
                continue
            claim = slave.try_to_claim(QueueEntry.from_body(reservation.body))
            if isinstance(claim, Claim):
                ran.append(claim.key)
                slave.finish(claim)
            queue.finish(reservation)
            if len(ran) > 20:
                begun.set()
        queue.close()

    slaves = [threading.Thread(target=work, args=(hand(name),)) for name in ("a", "b")]
    for slave in slaves:
        slave.start()
    assert begun.wait(30)
    promoted, _ = service.promote("job")
    ended.set()
    for slave in slaves:
        slave.join()
    assert 0 < len(promoted.waiting) < 1_000
    assert service.jobs.get("job").counters.succeeded_tasks == 1_000
    assert len(ran) == len(set(ran)) == 1_000
    assert rows("SELECT 1 FROM attempts WHERE job_key = :job AND finished_at IS NULL", job=record.job_key) == []


def test_a_promoted_job_does_not_push_newcomers_behind_all_that_waits(
    service: Service, hand: MakeHand, take: Take
) -> None:
    service.submit(job(*["big"] * 100, job_id="big", owner="bob"))
    service.submit(job(*["first"] * 50, job_id="first"))
    service.submit(job(*["late"] * 5, job_id="late"))
    service.promote("late")
    a = hand("a")
    for _ in range(5):
        a.finish(a.claim(take()))
    service.submit(job("new", job_id="new", owner="cleo"))
    assert "new" in [take().job_id for _ in range(3)]


def test_promoted_work_stays_charged(service: Service, share_of: Callable[[str], float]) -> None:
    service.submit(job("keep", job_id="keep", owner="bob"))
    service.submit(job(*["one"] * 4))
    service.promote("job")
    assert share_of("ann") == 4 * 30.0
    service.submit(job("one", job_id="next"))
    assert share_of("ann") == 5 * 30.0


@pytest.mark.parametrize(
    ("canceled", "owed"),
    [
        ("before", 3 * 30.0),  # what was promoted from behind it: its work was done, or will be
        ("promoted", 2 * 30.0),
        ("behind", (2 + 3) * 30.0),
    ],
)
def test_a_cancel_beside_a_promoted_job_gives_back_what_did_not_run_and_no_more(
    canceled: str, owed: float, service: Service, share_of: Callable[[str], float]
) -> None:
    service.submit(job("keep", job_id="keep", owner="bob"))
    service.submit(job(*["one"] * 2, job_id="before"))
    service.submit(job(*["one"] * 3, job_id="promoted"))
    service.submit(job(*["one"] * 4, job_id="behind"))
    service.promote("promoted")
    service.cancel(canceled, "enough")
    others = {"before": 4, "promoted": 4, "behind": 0}[canceled] * 30.0
    assert share_of("ann") == owed + others


def test_a_second_cancel_charges_promoted_work_once(
    service: Service, hand: MakeHand, take: Take, share_of: Callable[[str], float]
) -> None:
    service.submit(job("keep", job_id="keep", owner="bob"))
    for name, tasks in (("before", 2), ("promoted", 3), ("behind", 4), ("last", 5)):
        service.submit(job(*["one"] * tasks, job_id=name))
    service.promote("promoted")
    a = hand("a")
    for _ in range(3):
        a.finish(a.claim(take()))
    service.cancel("before", "enough")
    service.cancel("behind", "enough")
    assert share_of("ann") == (3 + 5) * 30.0


def test_a_cancel_leaves_what_was_promoted_in_its_place(service: Service, take: Take) -> None:
    service.submit(job(*["other"] * 3, job_id="other", owner="bob"))
    service.submit(job(*["one"] * 3, job_id="before"))
    service.submit(job(*["one"] * 2, job_id="promoted"))
    service.promote("promoted")
    service.cancel("before", "enough")
    assert [take().job_id for _ in range(2)] == ["promoted", "promoted"]


def test_the_command_says_whom_it_delays_and_by_how_much(
    service: Service, master_settings: MasterSettings, slave_database: Database
) -> None:
    _learn(slave_database, {"short": 10.0, "long": 100.0})
    service.submit(job("long", "short", job_id="theirs", owner="bob"))
    service.submit(job(*["long"] * 2, *["short"] * 4))
    service.submit(job("short", job_id="their-next", owner="bob"))
    service.submit(job("short", job_id="own-next"))
    said: list[str] = []
    assert run_promote(master_settings, "job", said.append) == 0
    assert said[0] == "job: 6 waiting attempts, 240 s of expected work, go before all others; 0 run already."
    assert said[1:] == [
        "Behind them wait, for as long as no slave is alive:",
        "  theirs (owner bob): 2 attempts, 240 s of work put ahead",
        "  their-next (owner bob): 1 attempts, 40 s of work put ahead",
    ]
    said.clear()
    run_promote(master_settings, "job", said.append)
    assert said == ["job was promoted before, with all that waits of it; nothing changes."]


def test_the_delay_is_shared_by_the_live_slots(
    service: Service, master_settings: MasterSettings, slave_database: Database
) -> None:
    Slaves(slave_database).register(SLAVE)
    service.submit(job("one", job_id="theirs", owner="bob"))
    service.submit(job(*["one"] * 4))
    said: list[str] = []
    run_promote(master_settings, "job", said.append)
    assert said[1:] == [
        "Behind them wait:",
        "  theirs (owner bob): 1 attempts, 120 s of work put ahead, up to 30.0 s longer on 4 live slots",
    ]


def _crash(*_: object, **__: object) -> None:
    raise QueueUnavailable("beanstalkd is away")


def _next(queue: Queue) -> str:
    reservation = queue.reserve(timeout_seconds=0)
    assert reservation is not None
    return reservation.body


def _valid(service: Service, queue: Queue) -> list[str]:
    """The tests in the tube in their order, without the entries that are void."""
    pages = service.entries.waiting(older_than=timedelta(0))
    deliveries = {item.entry.key: item.entry.delivery for page in pages for item in page}
    return [entry.task.description for entry in _drain(queue) if deliveries[entry.key] == entry.delivery]
