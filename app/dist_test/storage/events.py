"""The append-only record of what happened to a job, written in the transaction that it tells of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from dist_test.model.task import AttemptKey
from dist_test.storage.bulk import insert_rows
from dist_test.storage.schema import events

MAX_DETAIL_CHARACTERS = 1000
KINDS = (
    *("submitted", "enqueued", "claimed", "released", "finished", "retried"),
    *("canceled", "repaired", "promoted"),
)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a job, or, with `key`, to one attempt of it.

    `kind` is one of KINDS; `actor` is the slave or the master that did it. `at` is None until written.
    """

    job: int
    kind: str
    actor: str
    key: AttemptKey | None = None
    claim: int | None = None
    delivery: int | None = None
    detail: str | None = None
    at: datetime | None = None


def write_events(connection: Connection, happened: Sequence[Event]) -> None:
    """Append events, at the database's time."""
    rows = [
        {
            "job_key": event.job,
            "task_index": event.key.task if event.key else None,
            "attempt": event.key.attempt if event.key else None,
            "kind": event.kind,
            "actor": event.actor,
            "claim": event.claim,
            "delivery": event.delivery,
            "detail": event.detail[:MAX_DETAIL_CHARACTERS] if event.detail else None,
        }
        for event in happened
    ]
    insert_rows(connection, events, rows)


def events_of_attempt(connection: Connection, key: AttemptKey) -> list[Event]:
    """What happened to one attempt, oldest first."""
    rows = connection.execute(
        select(events)
        .where(events.c.job_key == key.job, events.c.task_index == key.task, events.c.attempt == key.attempt)
        .order_by(events.c.event_id)
    )
    return [
        Event(
            job=row.job_key,
            kind=row.kind,
            actor=row.actor,
            key=key,
            claim=row.claim,
            delivery=row.delivery,
            detail=row.detail,
            at=row.at,
        )
        for row in rows
    ]
