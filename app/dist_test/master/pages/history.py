"""What has become of a project's tests: the list of them, each one's history, and the flaky ones."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from flask import render_template, request, url_for
from werkzeug.exceptions import BadRequest

from dist_test.master.auth import open_to_all
from dist_test.master.pages.blueprint import web
from dist_test.master.pages.listing import MAX_SEARCH_CHARACTERS
from dist_test.master.query import choice, page, required, whole_number
from dist_test.master.site import site
from dist_test.model.outcome import Outcome
from dist_test.storage.history import Failure, FlakySort, ListSort, Run
from dist_test.storage.jobs import AttemptRecord

TESTS_PER_PAGE = 50
MOST_PAGES = 10_000
DAYS = 30
MOST_DAYS = 365
CHOICES_OF_DAYS = (7, DAYS, 90, MOST_DAYS)
RUNS_SHOWN = 100
FAILURES_SHOWN = 5
# The least that a logarithmic axis can show, in seconds; less is noise in any test.
LEAST_SECONDS = 0.001


class RunFilter(StrEnum):
    """Which runs of a test to list."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"  # by itself, or at its time limit
    FLAKY = "flaky"  # succeeded after a failure
    OTHER = "other"  # canceled, lost, could not be set up, or running


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a test did in runs that ended by themselves or at their time limit. seconds are None if there are none."""

    runs: int
    passes: int
    flakes: int
    median_seconds: float | None
    slow_seconds: float | None  # nine in ten are quicker


@web.get("/tests")
@open_to_all
def tests() -> str:
    """The tests of `project`; without it, the projects."""
    history, days = site().service.history, _days()
    if "project" not in request.args:
        return render_template("projects.html", projects=history.projects(days=days), **_choices(days))
    search, sort = request.args.get("q", ""), choice("sort", ListSort) or ListSort.NAME
    if len(search) > MAX_SEARCH_CHARACTERS:
        raise BadRequest(f"q has {len(search)} characters; the limit is {MAX_SEARCH_CHARACTERS}")
    number = whole_number("page", default=1, low=1, high=MOST_PAGES)
    window = history.window(required("project"), days=days)
    found = history.tests(
        window, search=search, sort=sort, offset=(number - 1) * TESTS_PER_PAGE, limit=TESTS_PER_PAGE + 1
    )
    shown, more = page(found, TESTS_PER_PAGE)
    address = {"project": window.project, "q": search, "sort": sort.value, "days": days}
    return render_template(
        "tests.html",
        window=window,
        tests=shown,
        search=search,
        sort=sort,
        sorts=ListSort,
        number=number,
        more=more,
        address={name: value for name, value in address.items() if value != "" or name == "project"},
        **_choices(days),
    )


@web.get("/test")
@open_to_all
def test() -> str:
    project, description, days = required("project"), required("description"), _days()
    runs = site().service.history.runs(project, description, days=days)
    only = choice("outcome", RunFilter)
    return render_template(
        "history.html",
        project=project,
        description=description,
        standing=standing_of(runs),
        expected=site().service.history.expected(project, description),
        runs=[run for run in runs if only is None or _is_shown(run, only)][:RUNS_SHOWN],
        found=len(runs),
        failures=[run for run in runs if _is_shown(run, RunFilter.FAILED)][:FAILURES_SHOWN],
        dots=_dots(runs),
        only=only,
        filters=RunFilter,
        log_address=log_address,
        **_choices(days),
    )


@web.get("/flaky")
@open_to_all
def flaky() -> str:
    days, sort = _days(), choice("sort", FlakySort) or FlakySort.RATE
    window = site().service.history.window(required("project"), days=days)
    now = datetime.now(UTC)
    return render_template(
        "flaky.html",
        window=window,
        tests=[
            (found, per_day(found.moments, now=now, days=days))
            for found in site().service.history.flaky(window, sort=sort)
        ],
        sort=sort,
        sorts=FlakySort,
        **_choices(days),
    )


def _days() -> int:
    return whole_number("days", default=DAYS, low=1, high=MOST_DAYS)


def _choices(days: int) -> Mapping[str, Any]:
    return {"days": days, "choices_of_days": sorted({*CHOICES_OF_DAYS, days})}


def _is_shown(run: Run, only: RunFilter) -> bool:
    outcome = run.attempt.outcome
    if only is RunFilter.FLAKY:
        return run.attempt.is_flaky
    if only is RunFilter.SUCCEEDED:
        return outcome is Outcome.SUCCEEDED
    is_failure = outcome is not None and outcome.is_test_failure
    return is_failure if only is RunFilter.FAILED else not is_failure and outcome is not Outcome.SUCCEEDED


def standing_of(runs: Sequence[Run]) -> Standing:
    """How the test did in these runs. PURE."""
    measured = [run.attempt for run in runs if run.attempt.outcome is not None and run.attempt.outcome.is_measured]
    seconds = sorted(attempt.duration_seconds for attempt in measured if attempt.duration_seconds is not None)
    return Standing(
        runs=len(measured),
        passes=sum(attempt.outcome is Outcome.SUCCEEDED for attempt in measured),
        flakes=sum(attempt.is_flaky for attempt in measured),
        median_seconds=share_of(seconds, 0.5),
        slow_seconds=share_of(seconds, 0.9),
    )


@web.app_template_filter("share")
def share_of(seconds: Sequence[float], share: float) -> float | None:
    """The least of the sorted values that at least this share of them does not exceed; None of none. PURE."""
    return seconds[math.ceil(share * len(seconds)) - 1] if seconds else None


def _dots(runs: Sequence[Run]) -> str:
    """What the plot shows, oldest first: end in seconds since 1970, duration, outcome, address of the log; as JSON."""
    return json.dumps(sorted(_dot(run) for run in runs if _is_dot(run.attempt)))


def _is_dot(attempt: AttemptRecord) -> bool:
    is_measured = attempt.outcome is not None and attempt.outcome.is_measured
    return is_measured and attempt.finished_at is not None and attempt.duration_seconds is not None


def _dot(run: Run) -> tuple[float, float, str, str]:
    attempt = run.attempt
    return (
        attempt.finished_at.timestamp() if attempt.finished_at else 0.0,
        max(attempt.duration_seconds or 0.0, LEAST_SECONDS),
        attempt.outcome or "",
        log_address(run),
    )


def log_address(run: Run) -> str:
    """Where the log of a run is shown."""
    return _log_address(run.job_id, run.attempt.key.task, run.attempt.key.attempt)


@web.app_template_filter("failure_log")
def failure_address(failure: Failure) -> str:
    """Where the log of a failure is shown."""
    return _log_address(failure.job_id, failure.task, failure.attempt)


def _log_address(job_id: str, task: int, attempt: int) -> str:
    return url_for("web.task", job_id=job_id, task_id=task, attempt=attempt, log="stderr", _anchor="log-view")


def per_day(moments: Sequence[datetime], *, now: datetime, days: int, most: int = 30) -> list[int]:
    """How many of the moments lie in each of `most` equal parts of the last days, the oldest first. PURE."""
    part = timedelta(days=days) / most
    counts = Counter(min(max((now - moment) // part, 0), most - 1) for moment in moments)
    return [counts[age] for age in reversed(range(most))]
