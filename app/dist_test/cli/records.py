"""Jobs and attempts as the master describes them on `/api/v1`."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from dist_test.errors import MasterRefused, shown
from dist_test.model.summary import COUNTER_NAMES, Counters


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it stands. `state` is submitting, running or finished; `result` succeeded, failed, canceled or None."""

    job_id: str
    name: str
    project: str
    owner: str
    state: str
    result: str | None
    submitted_at: datetime
    enqueued_at: datetime | None
    finished_at: datetime | None
    promoted_at: datetime | None
    cancel_reason: str | None
    max_failed_tasks: int | None
    url: str
    expected_seconds_left: float | None
    running_attempts: int
    counters: Counters

    @property
    def is_finished(self) -> bool:
        return self.state == "finished"

    @classmethod
    def from_json(cls, document: Any) -> "Job":
        """Read the master's answer; keys that we don't know are a newer master's. Raises MasterRefused."""
        values = _values(cls, document)
        counters = _checked(document["counters"], COUNTER_NAMES, "the job's counters")
        return cls(**values | {"counters": Counters(**counters)})


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """An attempt as it stands. `outcome` is None until `state` is finished.

    The URLs are presigned for about a day, and None for what was not stored.
    """

    task_id: str
    attempt: int
    description: str
    state: str
    outcome: str | None
    exit_status: int | None
    duration_seconds: float | None
    slave_id: str | None
    message: str | None
    logs_lost: bool
    stdout_url: str | None
    stderr_url: str | None
    artifacts_url: str | None

    @classmethod
    def from_json(cls, document: Any) -> "Attempt":
        """Read the master's answer. Raises MasterRefused."""
        return cls(**_values(cls, document))


@dataclass(frozen=True, kw_only=True)
class LogPart:
    """A piece of one stream of an attempt: `data` begins `left_out_bytes` after the offset that was asked for.

    run: another number than before means that the attempt runs again from its start. is_final: nothing comes after.
    """

    task_id: str
    attempt: int
    latest_attempt: int
    run: int
    state: str
    outcome: str | None
    message: str | None
    stream: str
    next_offset: int
    left_out_bytes: int
    is_final: bool
    is_stored: bool
    data: bytes

    @classmethod
    def from_json(cls, document: Any) -> "LogPart":
        """Read the master's answer, whose data is in base64. Raises MasterRefused."""
        values = _values(cls, document)
        try:
            data = base64.b64decode(values["data"], validate=True)
        except (ValueError, TypeError) as exc:
            raise MasterRefused("the master's answer has a log that is not base64; is it of the same version?") from exc
        return cls(**values | {"data": data})


def _values(record: type[Job | Attempt | LogPart], document: Any) -> dict[str, Any]:
    names = tuple(field.name for field in fields(record))
    values = _checked(document, names, f"a {record.__name__.lower()}")
    return {name: _time(value) if name.endswith("_at") else value for name, value in values.items()}


def _checked(document: Any, names: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise MasterRefused(f"the master's answer holds {shown(document)} instead of {what}; is it a dist_test master?")
    if missing := [name for name in names if name not in document]:
        raise MasterRefused(f"the master's answer lacks {missing[0]} of {what}; is it of the same version as this?")
    return {name: document[name] for name in names}


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except (ValueError, TypeError) as exc:
        raise MasterRefused(f"the master's answer has {shown(value)} for a time; is it of the same version?") from exc
