"""The table of slaves: each writes its own row with its heartbeat; operators and the autoscaler write `want`."""

import difflib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from dist_test.errors import SlaveNotFound
from dist_test.storage.database import Database
from dist_test.storage.schema import AnyRow, Moment

NAMED_AT_MOST = 20  # slaves in the message that one is not known
LIVE_FOR = timedelta(seconds=60)  # a slave without heartbeat for longer is not counted on


@dataclass(frozen=True, kw_only=True)
class SlaveDescription:
    """What a slave knows of itself when it starts."""

    slave_id: str
    instance_id: str
    zone: str
    mig: str
    template: str
    slots: int
    version: str


@dataclass(frozen=True, kw_only=True)
class Slave(SlaveDescription):
    """A slave as it last described itself.

    `state` is up, draining, drained, preempted or quarantined; `want` is run, drain or delete. `idle_since` is
    None while a task runs.
    """

    busy: int
    state: str
    want: str
    message: str
    idle_since: datetime | None
    started_at: datetime
    heartbeat: datetime
    is_live: bool
    silent_for: timedelta = timedelta(0)  # since its last heartbeat, by the database's clock

    @classmethod
    def from_row(cls, row: AnyRow, live_for: timedelta) -> "Slave":
        fields = dict(row._mapping)
        silent_for = timedelta(microseconds=fields.pop("silent_microseconds"))
        return cls(**fields, silent_for=silent_for, is_live=silent_for < live_for)


_REGISTER = text("""
    INSERT INTO slaves (slave_id, instance_id, zone, mig, template, slots, busy, state, want, message, idle_since,
                        started_at, heartbeat, version)
    VALUES (:slave_id, :instance_id, :zone, :mig, :template, :slots, 0, 'up', 'run', '', UTC_TIMESTAMP(6),
            UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), :version)
    ON DUPLICATE KEY UPDATE
        -- A drain outlives a restart of the slave, but not a new machine of the same name.
        want = IF(instance_id = VALUES(instance_id), want, 'run'),
        instance_id = VALUES(instance_id), zone = VALUES(zone), mig = VALUES(mig), template = VALUES(template),
        slots = VALUES(slots), busy = 0, state = 'up', message = '', idle_since = VALUES(idle_since),
        started_at = VALUES(started_at), heartbeat = VALUES(heartbeat), version = VALUES(version)
""")

_BEAT = text("""
    UPDATE slaves
    SET busy = :busy, state = :state, message = :message, heartbeat = UTC_TIMESTAMP(6),
        idle_since = IF(:busy > 0, NULL, COALESCE(idle_since, UTC_TIMESTAMP(6)))
    WHERE slave_id = :slave_id
""")

_LIST = text("""
    SELECT slave_id, instance_id, zone, mig, template, slots, busy, state, want, message, idle_since, started_at,
           heartbeat, version, TIMESTAMPDIFF(MICROSECOND, heartbeat, UTC_TIMESTAMP(6)) AS silent_microseconds
    FROM slaves ORDER BY slave_id
""").columns(idle_since=Moment, started_at=Moment, heartbeat=Moment)

_OTHERS = text("""
    SELECT 1 FROM slaves
    WHERE slave_id <> :slave_id AND state = 'up' AND want = 'run'
      AND heartbeat > UTC_TIMESTAMP(6) - INTERVAL :live MICROSECOND
    LIMIT 1
""")


class Slaves:
    """The rows of all slaves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, slave: SlaveDescription) -> None:
        """Write the row of a slave that starts."""
        self._database.run(lambda connection: connection.execute(_REGISTER, vars(slave)))

    def all(self, *, live_for: timedelta = LIVE_FOR) -> list[Slave]:
        """Every slave that ever registered, by name; is_live are those that were heard of in the last `live_for`."""
        rows = self._database.run(lambda connection: connection.execute(_LIST).all())
        return [Slave.from_row(row, live_for) for row in rows]

    def get(self, slave_id: str) -> Slave:
        """One slave. Raises SlaveNotFound, which names those that may have been meant."""
        known = {slave.slave_id: slave for slave in self.all()}
        if slave_id not in known:
            near = difflib.get_close_matches(slave_id, known, n=5, cutoff=0.5) or sorted(known)[:NAMED_AT_MOST]
            raise SlaveNotFound(f"no slave has the id {slave_id}; there is: {', '.join(near) or 'none'}")
        return known[slave_id]

    def want(self, slave_id: str, want: str) -> None:
        """Ask a slave to `run` or to `drain`. Raises SlaveNotFound."""
        statement = text("UPDATE slaves SET want = :want WHERE slave_id = :slave_id")
        values = {"want": want, "slave_id": slave_id}
        if self._database.run(lambda connection: connection.execute(statement, values).rowcount) != 1:
            self.get(slave_id)


def beat(connection: Connection, *, slave_id: str, busy: int, state: str, message: str) -> str | None:
    """Write a heartbeat; give back what is wanted of the slave, None when its row is gone."""
    values = {"slave_id": slave_id, "busy": busy, "state": state, "message": message[:1000]}
    connection.execute(_BEAT, values)
    return connection.execute(text("SELECT want FROM slaves WHERE slave_id = :slave_id"), values).scalar()


def others_are_up(connection: Connection, slave_id: str) -> bool:
    """Whether another slave than this one takes tasks at the moment."""
    values = {"slave_id": slave_id, "live": microseconds(LIVE_FOR)}
    return connection.execute(_OTHERS, values).scalar() is not None


def microseconds(duration: timedelta) -> int:
    """A duration as the number that INTERVAL … MICROSECOND takes."""
    return duration // timedelta(microseconds=1)
