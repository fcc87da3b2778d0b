"""Leases on attempts: who runs what, until when, and under which claim number a result will count.

Who else may be here: other slaves with the same entry (beanstalkd gave it again), masters that cancel the job, the
reconciler. Every change is one conditional UPDATE, and the row count says who won.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, text, update

from dist_test.model.outcome import Outcome
from dist_test.model.task import AttemptKey, QueueEntry
from dist_test.storage.database import Database
from dist_test.storage.events import Event, write_events
from dist_test.storage.schema import attempts
from dist_test.storage.slaves import beat, microseconds, others_are_up

TAKEOVERS_ALLOWED = 3  # reliability.md: an attempt that outlived this many slaves is poison
AVOIDS_ALLOWED = 10  # after so many detours the slave that failed before may run it again


class Refusal(Enum):
    """Why an entry was not claimed."""

    OVER = "over"  # finished, canceled, or an older delivery: delete the entry
    LEASED = "leased"  # a live lease, most likely: look again later
    POISON = "poison"  # it has killed its slaves too often: record it as lost


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to run an attempt. `number` fences it: whatever is written under an older number does not count."""

    key: AttemptKey
    number: int


@dataclass(frozen=True, kw_only=True)
class HeartbeatAnswer:
    """What a heartbeat found out: claims that are no longer ours, and what is wanted of the slave.

    `canceled` are the lost ones whose attempt was canceled. `want` is None when the slave's row is gone.
    """

    lost: frozenset[Claim]
    canceled: frozenset[Claim]
    want: str | None


# Assignments are evaluated from left to right: takeovers looks at the old lease. The token lets the same call be
# repeated after a connection was lost during its commit, without counting its own lease as somebody else's.
_CLAIM = """
    UPDATE attempts
    SET takeovers = takeovers + (lease_until IS NOT NULL AND claim_token <> %(token)s),
        claim = LAST_INSERT_ID(claim + 1), claim_token = %(token)s, slave_id = %(slave_id)s, has_started = 1,
        started_at = UTC_TIMESTAMP(6), lease_until = UTC_TIMESTAMP(6) + INTERVAL %(lease)s MICROSECOND
    WHERE job_key = %(job)s AND task_index = %(task)s AND attempt = %(attempt)s
      AND finished_at IS NULL AND delivery = %(delivery)s
      AND (lease_until IS NULL OR claim_token = %(token)s
           OR (lease_until < UTC_TIMESTAMP(6) AND takeovers < %(takeovers_allowed)s));

    INSERT INTO events (job_key, task_index, attempt, kind, actor, claim, delivery)
    SELECT job_key, task_index, attempt, 'claimed', slave_id, claim, delivery FROM attempts
    WHERE job_key = %(job)s AND task_index = %(task)s AND attempt = %(attempt)s AND claim_token = %(token)s
"""

_REFUSAL = text("""
    SELECT finished_at IS NOT NULL OR delivery <> :delivery AS is_over,
           lease_until < UTC_TIMESTAMP(6) AND takeovers >= :takeovers_allowed AS is_poison
    FROM attempts WHERE job_key = :job AND task_index = :task AND attempt = :attempt
""")

_AVOID = text("""
    UPDATE attempts SET avoid_count = avoid_count + 1
    WHERE job_key = :job AND task_index = :task AND attempt = :attempt
      AND finished_at IS NULL AND avoid_count < :avoids_allowed
""")

# The claim goes up: what its holder might still write must not count.
_RELEASE = text("""
    UPDATE attempts
    SET claim = claim + 1, lease_until = NULL, claim_token = NULL, slave_id = NULL, queued_at = UTC_TIMESTAMP(6)
    WHERE job_key = :job AND task_index = :task AND attempt = :attempt AND claim = :claim AND finished_at IS NULL
""")


class Claims:
    """The leases of one slave."""

    def __init__(self, database: Database, *, slave_id: str, lease: timedelta) -> None:
        self._database = database
        self._slave_id = slave_id
        self._lease = lease

    def claim(self, entry: QueueEntry) -> Claim | Refusal:
        """Mark the entry's attempt as running here; say why when it is not ours to run.

        Two slaves with the same entry: the row count gives it to one. The lease must be renewed before it ends.
        """
        values = {
            **_columns(entry.key),
            "token": uuid.uuid4().hex,
            "slave_id": self._slave_id,
            "lease": microseconds(self._lease),
            "delivery": entry.delivery,
            "takeovers_allowed": TAKEOVERS_ALLOWED,
        }
        claimed = self._database.run_script(_CLAIM, values)
        if claimed.rows != 1:
            return self._database.run(lambda connection: _refusal(connection, values))
        # valid only because exactly one row matched; otherwise it is the number of an earlier statement
        return Claim(key=entry.key, number=claimed.insert_id)

    def must_avoid(self, entry: QueueEntry) -> bool:
        """Whether the task should rather run elsewhere: it has failed here, and another slave is up to take it."""
        if self._slave_id not in entry.avoid:
            return False
        return self._database.run(lambda connection: self._avoid(connection, entry))

    def release(self, claim: Claim, reason: str) -> bool:
        """Hand an attempt back unrun or unfinished, using up nothing; False when it was no longer ours."""
        return self._database.run(lambda connection: self._release(connection, claim, reason))

    def renew(self, claims: Sequence[Claim], *, busy: int, state: str, message: str) -> HeartbeatAnswer:
        """Extend the leases of `claims`, write the slave's heartbeat, and find out what was lost meanwhile."""
        return self._database.run_each(
            lambda connection: self._renew(connection, claims, busy, state, message), attempts=1
        )

    def _avoid(self, connection: Connection, entry: QueueEntry) -> bool:
        if not others_are_up(connection, self._slave_id):
            return False
        values = {**_columns(entry.key), "avoids_allowed": AVOIDS_ALLOWED}
        # 0 rows: avoided often enough, or over. The claim that follows tells which.
        return connection.execute(_AVOID, values).rowcount == 1

    def _release(self, connection: Connection, claim: Claim, reason: str) -> bool:
        values = {**_columns(claim.key), "claim": claim.number}
        if connection.execute(_RELEASE, values).rowcount != 1:
            return False
        released = Event(
            job=claim.key.job,
            kind="released",
            actor=self._slave_id,
            key=claim.key,
            claim=claim.number,
            detail=reason,
        )
        write_events(connection, [released])
        return True

    def _renew(
        self, connection: Connection, claims: Sequence[Claim], busy: int, state: str, message: str
    ) -> HeartbeatAnswer:
        want = beat(connection, slave_id=self._slave_id, busy=busy, state=state, message=message)
        if not claims:
            return HeartbeatAnswer(lost=frozenset(), canceled=frozenset(), want=want)
        interval = text("INTERVAL :lease MICROSECOND").bindparams(lease=microseconds(self._lease))
        connection.execute(
            update(attempts)
            .where(or_(*map(_is_ours, claims)), attempts.c.finished_at.is_(None))
            .values(lease_until=func.utc_timestamp(6).op("+")(interval))
        )
        rows = connection.execute(select(*_KEY, attempts.c.outcome).where(or_(*map(_is_ours, claims))))
        found = {AttemptKey(*row[:3]): row.outcome for row in rows}
        # Another's claim is not found. A finished one that is neither canceled nor lost is a result of our own.
        lost = frozenset(claim for claim in claims if found.get(claim.key, Outcome.LOST) in _STOPPED)
        canceled = frozenset(claim for claim in lost if found.get(claim.key) == Outcome.CANCELED)
        return HeartbeatAnswer(lost=lost, canceled=canceled, want=want)


_KEY = (attempts.c.job_key, attempts.c.task_index, attempts.c.attempt)
_STOPPED = (Outcome.CANCELED, Outcome.LOST)


def _is_ours(claim: Claim) -> ColumnElement[bool]:
    return and_(is_attempt(claim.key), attempts.c.claim == claim.number)


def is_attempt(key: AttemptKey) -> ColumnElement[bool]:
    """The condition that a row of `attempts` is this one."""
    return and_(attempts.c.job_key == key.job, attempts.c.task_index == key.task, attempts.c.attempt == key.attempt)


def are_attempts(keys: Iterable[AttemptKey]) -> ColumnElement[bool]:
    """The condition that a row of `attempts` is one of these: short, as most keys share their job and number."""
    places: dict[tuple[int, int], list[int]] = {}
    for key in keys:
        places.setdefault((key.job, key.attempt), []).append(key.task)
    return or_(
        *(
            and_(attempts.c.job_key == job, attempts.c.attempt == attempt, attempts.c.task_index.in_(indexes))
            for (job, attempt), indexes in places.items()
        )
    )


def _refusal(connection: Connection, values: dict[str, object]) -> Refusal:
    row = connection.execute(_REFUSAL, values).one_or_none()
    if row is None or row.is_over:
        return Refusal.OVER
    # Neither: leased, or freed since the UPDATE looked. Both are for later.
    return Refusal.POISON if row.is_poison else Refusal.LEASED


def _columns(key: AttemptKey) -> dict[str, object]:
    return {"job": key.job, "task": key.task, "attempt": key.attempt}
