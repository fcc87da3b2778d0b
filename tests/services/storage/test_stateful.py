"""Anything in any order, on real servers: counters equal a recount, tags stay in order, audits are clean."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from dist_test.errors import JobNotRunning
from dist_test.master.audit import Auditor
from dist_test.master.reconciler import Reconciler
from dist_test.master.service import Service
from dist_test.model.outcome import Outcome
from dist_test.model.schedule import RETRY_BAND
from dist_test.model.task import QueueEntry
from dist_test.settings import MasterSettings
from dist_test.storage.claims import Claim, Refusal
from dist_test.storage.database import Database
from dist_test.storage.leader import Leadership
from dist_test.storage.queue import Queue, Queues
from dist_test.storage.schema import AnyRow

from ..conftest import empty_tables
from .conftest import Hand, job

ENDS = [outcome for outcome in Outcome if outcome not in (Outcome.CANCELED, Outcome.LOST)]


class ClusterMachine(RuleBasedStateMachine):
    """Masters and two slaves by hand; leases lapse, entries are lost, the reconciler makes rounds."""

    service: Service
    database: Database
    queue: Queue
    hands: tuple[Hand, Hand]
    auditor: Auditor
    make_reconciler: Callable[[], Reconciler]
    let_lapse: Callable[[], None]

    @initialize()
    def begin(self) -> None:
        empty_tables(self.database)
        while (reservation := self.queue.reserve(timeout_seconds=0)) is not None:
            self.queue.finish(reservation)
        # It remembers what it saw in its last round, which was of another example.
        self.reconciler = self.make_reconciler()
        self.held: list[tuple[Hand, Claim]] = []
        self.number = 0

    @rule(tasks=st.integers(1, 4), retries=st.integers(0, 2), owner=st.sampled_from(["ann", "bob"]))
    def submit(self, tasks: int, retries: int, owner: str) -> None:
        self.number += 1
        descriptions = [f"t{index}" for index in range(tasks)]
        name = f"j{self.number}"
        self.service.submit(job(*descriptions, job_id=name, owner=owner, max_retries=retries))

    @rule(who=st.sampled_from([0, 1]))
    def claim(self, who: int) -> None:
        reservation = self.queue.reserve(timeout_seconds=0)
        if reservation is None:
            return
        entry, hand = QueueEntry.from_body(reservation.body), self.hands[who]
        claim = hand.try_to_claim(entry)
        if isinstance(claim, Claim):
            self.held.append((hand, claim))
        elif claim is Refusal.POISON:
            hand.finishes.record_lost(entry)
        if claim is Refusal.LEASED:
            self.queue.release(reservation, priority=1)
        elif isinstance(claim, Refusal):
            self.queue.finish(reservation)
        else:
            # A slave keeps the reservation; letting it go stands for a restart of beanstalkd.
            self.queue.release(reservation, priority=1)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(ENDS), asks=st.booleans())
    def finish(self, data: st.DataObject, outcome: Outcome, asks: bool) -> None:
        hand, claim = data.draw(st.sampled_from(self.held))
        recorded = hand.finish(claim, outcome, duration_seconds=2.0)
        if asks and recorded.retried:
            attempt = self.service.jobs.attempt(claim.key)
            assert attempt is not None
            [row] = self._rows("SELECT job_id FROM jobs WHERE job_key = :key", key=claim.key.job)
            self.service.retry(row.job_id, attempt.task_id, claim.key.attempt, claim.number)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        hand, claim = data.draw(st.sampled_from(self.held))
        hand.claims.release(claim, "drained")

    @rule()
    def leases_lapse(self) -> None:
        self.let_lapse()

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.number))
        try:
            self.service.cancel(f"j{number}", "enough")
        except JobNotRunning:
            assert self.service.jobs.get(f"j{number}").state == "finished"

    @precondition(lambda self: self.number)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.number))
        try:
            self.service.promote(f"j{number}")
        except JobNotRunning:
            assert self.service.jobs.get(f"j{number}").state == "finished"

    @rule()
    def lose_an_entry(self) -> None:
        reservation = self.queue.reserve(timeout_seconds=0)
        if reservation is not None:
            self.queue.finish(reservation)
        for _ in range(2):
            self.reconciler.round()

    @invariant()
    def audits_are_clean(self) -> None:
        for record in self.service.jobs.recent(limit=20):
            report = self.auditor.audit(record.job_key)
            wrong = [breach.reason for breach in report.breaches if "not in the queue" not in breach.reason]
            assert wrong == [], str(report)

    @invariant()
    def first_attempts_stand_in_the_order_of_their_tags(self) -> None:
        rows = self._rows(
            "SELECT start_tag, finish_tag, priority FROM attempts JOIN jobs USING (job_key)"
            " WHERE attempts.finished_at IS NULL AND attempt = 0 AND has_started = 0 AND priority >= 65536"
            " ORDER BY start_tag"
        )
        priorities = [row.priority for row in rows]
        assert priorities == sorted(priorities)
        assert all(row.finish_tag > row.start_tag for row in rows)

    @invariant()
    def an_owners_waiting_attempts_do_not_overlap(self) -> None:
        rows = self._rows(
            "SELECT owner, start_tag, finish_tag FROM attempts JOIN jobs USING (job_key)"
            " WHERE attempts.finished_at IS NULL AND attempt = 0 AND has_started = 0 AND priority >= 65536"
            " ORDER BY owner, start_tag"
        )
        for before, after in itertools.pairwise(rows):
            assert before.owner != after.owner or before.finish_tag <= after.start_tag + 1e-6

    @invariant()
    def a_promoted_job_is_promoted_as_a_whole(self) -> None:
        rows = self._rows(
            "SELECT job_key, MIN(priority) AS first, MAX(priority) AS last FROM attempts"
            " WHERE finished_at IS NULL GROUP BY job_key"
        )
        for row in rows:
            assert (row.first < RETRY_BAND) == (row.last < RETRY_BAND)

    def teardown(self) -> None:
        """Let everything go on: each task ends, and the tube is empty."""
        for _ in range(200):
            self.let_lapse()
            self.reconciler.round()
            self.claim(0)
            for hand, claim in self.held:
                hand.finish(claim, duration_seconds=1.0)
            self.held = []
            if not self.service.jobs.by_state("running"):
                break
        assert self.service.jobs.by_state("running") == []
        self.audits_are_clean()

    def _rows(self, statement: str, **values: object) -> list[AnyRow]:
        with self.database.engine.connect() as connection:
            return list(connection.execute(text(statement), values))


def test_anything_in_any_order(
    service: Service,
    database: Database,
    master_database: Database,
    queue: Queue,
    queues: Queues,
    hand: Callable[..., Hand],
    let_lapse: Callable[[], None],
    master_settings: MasterSettings,
    request: pytest.FixtureRequest,
) -> None:
    leader = Leadership(master_database, "reconciler")
    now = replace(master_settings, queued_grace=timedelta(0))

    class Machine(ClusterMachine):
        pass

    Machine.service, Machine.database, Machine.queue = service, database, queue
    Machine.hands, Machine.let_lapse = (hand("a"), hand("b")), staticmethod(let_lapse)
    Machine.auditor = Auditor(master_database, queue, grace=timedelta(0))
    Machine.make_reconciler = staticmethod(lambda: Reconciler(now, service, queues, leader))
    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=30,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking on real servers takes minutes
            ),
        )
    finally:
        leader.resign()
