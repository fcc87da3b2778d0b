"""The locked half of fair share: the busy period, the virtual time and each owner's finish tag.

Locks are taken in one order everywhere: busy_period, fair_share, jobs, attempts by key.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from dist_test.storage.schema import fair_share

_UNFINISHED_JOB = text("SELECT 1 FROM jobs WHERE state IN ('submitting', 'running') LIMIT 1")
_VIRTUAL_TIME = text("""
    SELECT start_tag FROM attempts
    WHERE period = :period AND attempt = 0 AND has_started = 1
    ORDER BY start_tag DESC LIMIT 1
""")
_OWNER = text("SELECT weight, period, finish_tag, retry_charge FROM fair_share WHERE owner = :owner FOR UPDATE")
# Weight 1 and no charge are the columns' defaults: a slave's account may not write weights.
_NEW_OWNER = text("INSERT IGNORE INTO fair_share (owner, period) VALUES (:owner, :period)")


@dataclass(frozen=True, kw_only=True)
class Share:
    """An owner's standing in a busy period: virtual seconds of its last finish tag and of its retries so far."""

    owner: str
    weight: float
    period: int
    finish_tag: float = 0.0
    retry_charge: float = 0.0


def lock_period(connection: Connection) -> int:
    """Lock the busy period against other submits and cancels; give back its number."""
    return int(connection.execute(text("SELECT period FROM busy_period WHERE id = 1 FOR UPDATE")).scalar_one())


def read_period(connection: Connection) -> int:
    """The busy period's number, without a lock."""
    return int(connection.execute(text("SELECT period FROM busy_period WHERE id = 1")).scalar_one())


def begin_period_if_idle(connection: Connection, period: int) -> int:
    """Begin the next period when no job is unfinished: all tags start from 0 again. The period is locked."""
    if connection.execute(_UNFINISHED_JOB).scalar() is not None:
        return period
    connection.execute(text("UPDATE busy_period SET period = :period WHERE id = 1"), {"period": period + 1})
    return period + 1


def virtual_time(connection: Connection, period: int) -> float:
    """The largest start tag among the period's first attempts that have begun to run, in virtual seconds."""
    return float(connection.execute(_VIRTUAL_TIME, {"period": period}).scalar() or 0.0)


def lock_share(connection: Connection, owner: str, period: int) -> Share:
    """Lock an owner's row and read it; what stems from an earlier period counts as nothing."""
    row = connection.execute(_OWNER, {"owner": owner}).one_or_none()
    if row is None:
        connection.execute(_NEW_OWNER, {"owner": owner, "period": period})
        row = connection.execute(_OWNER, {"owner": owner}).one()
    if row.period != period:
        return Share(owner=owner, weight=row.weight, period=period)
    return Share(
        owner=owner, weight=row.weight, period=period, finish_tag=row.finish_tag, retry_charge=row.retry_charge
    )


def write_share(connection: Connection, share: Share) -> None:
    """Write an owner's standing. The row is locked."""
    connection.execute(
        fair_share.update()
        .where(fair_share.c.owner == share.owner)
        .values(period=share.period, finish_tag=share.finish_tag, retry_charge=share.retry_charge)
    )


def set_weight(connection: Connection, owner: str, weight: float) -> None:
    """Give an owner another weight; it counts from the owner's next submit."""
    lock_share(connection, owner, read_period(connection))
    connection.execute(fair_share.update().where(fair_share.c.owner == owner).values(weight=weight))
