"""How templates write times, durations and how an attempt stands."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dist_test.master.links import stored_bytes
from dist_test.master.pages.blueprint import web
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT
from dist_test.storage.jobs import AttemptRecord


@web.app_template_filter("moment")
def _moment(time: Any) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


@web.app_template_filter("duration")
def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


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
