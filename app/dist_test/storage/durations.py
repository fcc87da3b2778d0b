"""How long a task of a project usually takes: what the order and the fair share are computed from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Insert, func, literal_column, select
from sqlalchemy.dialects.mysql import insert

from dist_test.model.schedule import HISTORY_WEIGHT, learn
from dist_test.storage.bulk import UTC_NOW, chunks
from dist_test.storage.database import Database
from dist_test.storage.schema import durations


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One measured run of a task, in seconds; a run stopped at its limit counts as the limit."""

    project: str
    description: str
    seconds: float


class Durations:
    """Expected seconds by (project, description)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def expected(self, project: str, descriptions: Sequence[str]) -> list[float | None]:
        """What is expected of each description, in the same order; None for one never seen."""
        keys = [duration_key(project, description) for description in descriptions]
        known: dict[str, float] = {}
        for chunk in chunks(sorted(set(keys))):
            known |= self._database.run(lambda connection, chunk=chunk: _known(connection, chunk))  # type: ignore[misc]  # bound now
        return [known.get(key) for key in keys]

    def observe(self, observations: Sequence[Observation]) -> None:
        """Learn from runs, in the order given."""
        if observations:
            self._database.run(lambda connection: _observe(connection, observations))


def duration_key(project: str, description: str) -> str:
    """The primary key of a history: descriptions are too long for an index."""
    return hashlib.sha256(f"{project}\0{description}".encode()).hexdigest()


def _known(connection: Connection, keys: Sequence[str]) -> dict[str, float]:
    query = select(durations.c.duration_key, durations.c.expected_seconds).where(durations.c.duration_key.in_(keys))
    return {row.duration_key: row.expected_seconds for row in connection.execute(query)}


def _observe(connection: Connection, observations: Sequence[Observation]) -> None:
    merged: dict[str, tuple[Observation, float, int]] = {}
    for observation in observations:
        key = duration_key(observation.project, observation.description)
        known = merged.get(key)
        seconds = learn(known[1] if known else None, observation.seconds)
        merged[key] = (observation, seconds, (known[2] if known else 0) + 1)
    # Sorted, so that two writers lock the rows in one order.
    rows = [
        {
            "duration_key": key,
            "project": observation.project,
            "description": observation.description,
            "expected_seconds": seconds,
            "runs": runs,
        }
        for key, (observation, seconds, runs) in sorted(merged.items())
    ]
    for chunk in chunks(rows):
        connection.execute(_LEARN, list(chunk))


def _learning() -> Insert:
    """learn(), as often as the task was seen in a batch: the old mean fades once for each run."""
    statement = insert(durations)
    weight: ColumnElement[float] = func.pow(literal_column(str(HISTORY_WEIGHT)), statement.inserted.runs)
    old, new = durations.c.expected_seconds, statement.inserted.expected_seconds
    return statement.on_duplicate_key_update(
        expected_seconds=new + (old - new) * weight, runs=durations.c.runs + statement.inserted.runs, updated_at=UTC_NOW
    )


_LEARN = _learning()
