"""How templates write times, durations and how an attempt stands."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dist_test.master.links import stored_bytes
from dist_test.master.pages.blueprint import web
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT
from dist_test.storage.jobs import AttemptRecord

_UNITS = ((1, 100, "s"), (60, 100 * 60, "min"))
_LONGEST_FORECAST_SECONDS = 31 * 24 * 3600


@web.app_template_filter("moment")
def _moment(time: Any) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


@web.app_template_filter("minute")
def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


@web.app_template_filter("clock")
def _clock(time: datetime) -> str:
    """The time of day, with the date where it is another day's."""
    return f"{time:%H:%M}" if time.date() == datetime.now(UTC).date() else _minute(time)


@web.app_template_filter("duration")
def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


@web.app_template_filter("about")
def about(seconds: float) -> str:
    """A duration to the nearest unit that says enough: "0 s" for what is negative. PURE."""
    whole = max(0, round(seconds))
    for unit_seconds, upto_seconds, unit in _UNITS:
        if whole < upto_seconds:
            return f"{whole // unit_seconds} {unit}"
    hours = whole // 3600
    return f"{hours} h {whole // 60 % 60:02} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


@web.app_template_filter("from_now")
def _from_now(seconds: float) -> datetime:
    # More than a month is no forecast, and too much for a datetime.
    moment = datetime.now(UTC) + timedelta(seconds=min(seconds, _LONGEST_FORECAST_SECONDS))
    return moment.replace(second=0, microsecond=0)


@web.app_template_filter("standing")
def standing(attempt: AttemptRecord) -> str:
    """How an attempt stands, in a word or two."""
    if attempt.outcome is None:
        return attempt.state
    if attempt.outcome is Outcome.FAILED and attempt.exit_status is not None:
        return f"failed ({attempt.exit_status})"
    return attempt.outcome.value.replace("_", " ")


@web.app_template_filter("stored")
def _stored(attempt: AttemptRecord) -> Mapping[str, int]:
    sizes = {name: stored_bytes(attempt, name) for name in (STDOUT, STDERR, ARTIFACTS)}
    return {name: size for name, size in sizes.items() if size is not None}


@web.app_template_filter("isolate_hash")
def _isolate_hash(task_id: str) -> str:
    return task_id.rpartition(".")[0]
