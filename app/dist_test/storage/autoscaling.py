"""What the autoscaler reads of work and slaves, what it asks of slaves, and what it keeps for its successor.

Who else may be here: slaves, which write their rows with each heartbeat; operators, who drain them; and an autoscaler
that led before and does not know yet that it no longer does. So each write names the epoch that it belongs to, and
changes nothing once a later one has begun.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import BigInteger, Connection, Executable, bindparam, text

from dist_test.storage.database import Database
from dist_test.storage.schema import AnyRow, Moment
from dist_test.storage.slaves import microseconds

FORGOTTEN_AFTER = timedelta(days=1)  # rows of slaves that were deleted stay, and there may be many
AUDIT_KEPT = timedelta(days=30)
AUDIT_BATCH = 1000  # rows removed at once
EVERY_GROUP = ""


@dataclass(frozen=True, kw_only=True)
class JobWork:
    """The unfinished attempts of a job. Those without a live lease wait."""

    job_id: str
    waiting: int
    waiting_seconds: float
    running: int
    running_seconds_left: float
    longest_seconds: float


@dataclass(frozen=True, kw_only=True)
class SlaveRow:
    """A slave that was heard of within a day. `has_lease`: an attempt is leased to it."""

    slave_id: str
    instance_id: str
    slots: int
    busy: int
    state: str
    want: str
    idle_since: datetime | None
    started_at: datetime
    heartbeat: datetime
    has_lease: bool


@dataclass(frozen=True, kw_only=True)
class ClusterReading:
    """Work and slaves, and the database's time when they were read."""

    now: datetime
    jobs: tuple[JobWork, ...]
    slaves: tuple[SlaveRow, ...]


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A group that operators keep at `size`, or with EVERY_GROUP and None: nothing at all is changed."""

    group: str
    size: int | None
    by: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Term:
    """The time of one leader, and the state that the one before has left; None when there was none."""

    epoch: int
    began: datetime
    state: str | None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the leader wrote last. `age`: how long ago by the database's clock, None when it never did."""

    epoch: int
    leader: str
    age: timedelta | None
    state: str | None
    summary: str | None


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """A decision to keep."""

    hold: str | None
    desired: int | None
    document: str


class Ask(StrEnum):
    """What can be asked of a slave."""

    RUN = "run"
    DRAIN = "drain"
    DELETE = "delete"


# Expected seconds come with the rows from the submit. An attempt whose slave died waits once its lease has run out.
_WORK = text("""
    SELECT jobs.job_id,
           SUM(NOT is_running) AS waiting,
           SUM(IF(is_running, 0, expected)) AS waiting_seconds,
           SUM(is_running) AS running,
           SUM(IF(is_running, GREATEST(0, expected - elapsed), 0)) AS running_seconds_left,
           MAX(expected) AS longest_seconds
    FROM (SELECT attempts.job_key, COALESCE(tasks.expected_seconds, :default_seconds) AS expected,
                 COALESCE(attempts.lease_until >= UTC_TIMESTAMP(6), FALSE) AS is_running,
                 COALESCE(TIMESTAMPDIFF(MICROSECOND, attempts.started_at, UTC_TIMESTAMP(6)) / 1e6, 0) AS elapsed
          FROM attempts JOIN tasks ON tasks.job_key = attempts.job_key AND tasks.task_index = attempts.task_index
          WHERE attempts.finished_at IS NULL) AS unfinished
    JOIN jobs ON jobs.job_key = unfinished.job_key
    GROUP BY unfinished.job_key, jobs.job_id
    ORDER BY unfinished.job_key
""")

_LEASES = """
    SELECT slave_id FROM attempts
    WHERE finished_at IS NULL AND has_started = 1 AND lease_until >= UTC_TIMESTAMP(6)
"""

_SLAVES = text(f"""
    SELECT slaves.slave_id, instance_id, slots, busy, state, want, idle_since, started_at, heartbeat,
           leased.slave_id IS NOT NULL AS has_lease
    FROM slaves LEFT JOIN (SELECT DISTINCT slave_id FROM ({_LEASES}) AS leases) AS leased
      ON leased.slave_id = slaves.slave_id
    WHERE heartbeat > UTC_TIMESTAMP(6) - INTERVAL :forgotten MICROSECOND
    ORDER BY slaves.slave_id
""").columns(idle_since=Moment, started_at=Moment, heartbeat=Moment)  # noqa: S608  # of a constant

_NOW = text("SELECT UTC_TIMESTAMP(6) AS now").columns(now=Moment)

_THIS_SLAVE = """
    UPDATE slaves SET want = :want
    WHERE slave_id = :slave_id AND instance_id = :instance_id
      AND EXISTS (SELECT 1 FROM autoscale_state WHERE id = 1 AND epoch = :epoch)
"""

# Each may be repeated after a lost connection, so what it asks for may be asked already. A slave that is to be deleted
# is never asked to run: its machine may be gone. It is deleted only while it says that it is drained, and has nothing.
_ASK = {
    Ask.RUN: text(f"{_THIS_SLAVE} AND want IN ('drain', 'run')"),
    Ask.DRAIN: text(f"{_THIS_SLAVE} AND want IN ('run', 'drain')"),
    Ask.DELETE: text(f"""{_THIS_SLAVE}
        AND want IN ('drain', 'delete') AND state = 'drained' AND busy = 0
        AND slave_id NOT IN (SELECT slave_id FROM ({_LEASES}) AS leases WHERE slave_id IS NOT NULL)
    """),  # noqa: S608  # of constants
}

_IS_ALIVE = text(f"""
    SELECT 1 FROM slaves
    WHERE slave_id = :slave_id AND instance_id = :instance_id
      AND (heartbeat > UTC_TIMESTAMP(6) - INTERVAL :silence MICROSECOND
           OR slave_id IN (SELECT slave_id FROM ({_LEASES}) AS leases WHERE slave_id IS NOT NULL))
""")  # noqa: S608  # of a constant

_BEGIN = text("""
    INSERT INTO autoscale_state (id, epoch, leader, led_since) VALUES (1, 1, :leader, UTC_TIMESTAMP(6))
    ON DUPLICATE KEY UPDATE epoch = epoch + 1, leader = VALUES(leader), led_since = VALUES(led_since)
""")
_BEGUN = text("SELECT epoch, led_since, state FROM autoscale_state WHERE id = 1").columns(led_since=Moment)

_SAVE = text("""
    UPDATE autoscale_state SET state = :state, summary = :summary, saved_at = UTC_TIMESTAMP(6)
    WHERE id = 1 AND epoch = :epoch
""")

_STANDING = text("""
    SELECT epoch, leader, state, summary, TIMESTAMPDIFF(MICROSECOND, saved_at, UTC_TIMESTAMP(6)) AS age
    FROM autoscale_state WHERE id = 1
""")

_RECORD = text("""
    INSERT INTO autoscale_audit (epoch, leader, hold, desired, document)
    SELECT epoch, leader, :hold, :desired, :document FROM autoscale_state WHERE id = 1 AND epoch = :epoch
""").bindparams(bindparam("desired", type_=BigInteger))

_FORGET = text("""
    DELETE FROM autoscale_audit WHERE at < UTC_TIMESTAMP(6) - INTERVAL :kept MICROSECOND LIMIT :batch
""")

_PIN = text("""
    INSERT INTO autoscale_pins (group_name, size, pinned_by) VALUES (:group, :size, :by)
    ON DUPLICATE KEY UPDATE size = VALUES(size), pinned_by = VALUES(pinned_by), pinned_at = UTC_TIMESTAMP(6)
""")
_PINS = text("""
    SELECT group_name AS `group`, size, pinned_by AS `by`, pinned_at AS at FROM autoscale_pins ORDER BY group_name
""").columns(at=Moment)


class Autoscaling:
    """The database as the autoscaler uses it. Raises DatabaseUnavailable and DatabaseRefused throughout."""

    def __init__(self, database: Database, *, attempts: int = 2) -> None:
        """`attempts`: how often something is tried. Whoever decides every few seconds must not wait for long."""
        self._database = database
        self._attempts = attempts

    def read(self, *, default_seconds: float) -> ClusterReading:
        """All unfinished work, and the slaves. `default_seconds`: what a task without history is taken to last."""

        def work(connection: Connection) -> ClusterReading:
            jobs = connection.execute(_WORK, {"default_seconds": default_seconds}).all()
            slaves = connection.execute(_SLAVES, {"forgotten": microseconds(FORGOTTEN_AFTER)}).all()
            return ClusterReading(
                now=connection.execute(_NOW).scalar_one(),
                jobs=tuple(map(_job, jobs)),
                slaves=tuple(_slave(row) for row in slaves),
            )

        return self._database.run_each(work, attempts=self._attempts)

    def ask(self, ask: Ask, slave_id: str, instance_id: str, *, epoch: int) -> bool:
        """Ask this very slave; say whether that is now in its row.

        False: another epoch has begun, its machine is another one, or it is past that. DELETE is only for slaves that
        are drained; at the same moment somebody may take the drain back, and the row count says who came first.
        """
        values = {"want": ask.value, "slave_id": slave_id, "instance_id": instance_id, "epoch": epoch}
        return self._count(_ASK[ask], values) == 1

    def is_alive(self, slave_id: str, instance_id: str, *, silence: timedelta) -> bool:
        """Whether the slave was heard of within `silence`, or holds a lease."""
        values = {"slave_id": slave_id, "instance_id": instance_id, "silence": microseconds(silence)}
        row = self._database.run_each(
            lambda connection: connection.execute(_IS_ALIVE, values).first(), attempts=self._attempts
        )
        return row is not None

    def begin_term(self, leader: str) -> Term:
        """Begin an epoch: from now on nobody writes under an earlier one. For the holder of the lock."""

        def work(connection: Connection) -> Term:
            connection.execute(_BEGIN, {"leader": leader[:200]})
            row = connection.execute(_BEGUN).one()
            return Term(epoch=row.epoch, began=row.led_since, state=row.state)

        return self._database.run(work, attempts=self._attempts)

    def save(self, *, epoch: int, state: str, summary: str) -> bool:
        """Keep the state for the next decision, whoever makes it. False: a later epoch has begun."""
        return self._count(_SAVE, {"epoch": epoch, "state": state, "summary": summary}) == 1

    def record(self, record: AuditRecord, *, epoch: int) -> None:
        """Keep a decision of this epoch for 30 days."""
        self._count(_RECORD, vars(record) | {"epoch": epoch})

    def forget_old_records(self) -> int:
        """Remove some of the records that are too old; say how many."""
        return self._count(_FORGET, {"kept": microseconds(AUDIT_KEPT), "batch": AUDIT_BATCH})

    def standing(self) -> Standing | None:
        """What the leader wrote last; None before the first one."""
        row = self._database.run_each(lambda connection: connection.execute(_STANDING).first())
        if row is None:
            return None
        fields = dict(row._mapping)
        age = fields.pop("age")
        return Standing(**fields, age=None if age is None else timedelta(microseconds=age))

    def pins(self) -> list[Pin]:
        """What is pinned."""
        rows = self._database.run_each(lambda connection: connection.execute(_PINS).all(), attempts=self._attempts)
        return [Pin(**row._mapping) for row in rows]

    def pin(self, group: str, size: int | None, *, by: str) -> None:
        """Keep a group at a size; with EVERY_GROUP and None change nothing."""
        self._count(_PIN, {"group": group, "size": size, "by": by[:200]})

    def unpin(self, group: str) -> bool:
        """Take a pin back; say whether there was one."""
        return self._count(text("DELETE FROM autoscale_pins WHERE group_name = :group"), {"group": group}) == 1

    def _count(self, statement: Executable, values: Mapping[str, object]) -> int:
        """The rows that a statement, a transaction by itself, has matched."""

        def work(connection: Connection) -> int:
            return int(connection.execute(statement, values).rowcount)

        return self._database.run_each(work, attempts=self._attempts)


def _job(row: AnyRow) -> JobWork:
    # Sums are decimals.
    return JobWork(
        job_id=row.job_id,
        waiting=int(row.waiting),
        waiting_seconds=float(row.waiting_seconds),
        running=int(row.running),
        running_seconds_left=float(row.running_seconds_left),
        longest_seconds=float(row.longest_seconds),
    )


def _slave(row: AnyRow) -> SlaveRow:
    fields = dict(row._mapping)
    return SlaveRow(**fields | {"has_lease": bool(fields["has_lease"])})
