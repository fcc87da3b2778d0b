"""The trace's columns, its download, and what it says of a job's end."""

from datetime import UTC, datetime, timedelta

import pytest

from dist_test.master.pages.trace import STATES, columns, events_of, tail_of
from dist_test.storage.traces import LastEnd, SlaveShare, Span

from ...trace_rules import broken_rules

SUBMIT = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = 1_000_000


def span(task: int, state: str = "succeeded", *, slave: str | None = "s1", **times: int | None) -> Span:
    """An attempt that ran from 1 s to 2 s, unless `times` say otherwise."""
    values: dict[str, int | None] = {"queued": 0, "started": SECOND, "ended": 2 * SECOND, **times}
    queued = values["queued"] or 0
    return Span(task, 0, "a" * 40, f"Test{task}", slave, state, queued, values["started"], values["ended"])


def at(seconds: float) -> datetime:
    """A moment after the submit."""
    return SUBMIT + timedelta(seconds=seconds)


def share(*, last_start: float, last_end: float, slave: str = "s1") -> SlaveShare:
    """What a slave did."""
    return SlaveShare(slave, 8, 3, 1.0, at(1), at(last_start), at(last_end))


def last(*, started: float, ended: float, expected: float | None = 30.0) -> LastEnd:
    """What ended last."""
    return LastEnd("FooTest", "s1", at(started), at(ended), expected)


def test_columns_have_a_value_for_each_span() -> None:
    waiting = span(1, "waiting", slave=None, started=None, ended=None)

    found = columns([span(0), waiting])

    assert found["slaves"] == ["s1"]
    assert found["slave"] == [0, None]
    assert [STATES[code] for code in found["state"]] == ["succeeded", "waiting"]
    assert (found["queued"], found["started"], found["ended"]) == ([0, 0], [1000, None], [2000, None])


def test_the_download_keeps_the_rules_of_trace_events() -> None:
    spans = [
        span(0),
        span(1, "failed", ended=4 * SECOND),
        span(2, "timed_out", slave="s2"),
        span(3, "lost", started=3 * SECOND, ended=5 * SECOND),
        span(4, "running", started=4 * SECOND, ended=None),
        span(5, "canceled", started=4 * SECOND, ended=4 * SECOND),
        span(6, "setup_failed", started=5 * SECOND, ended=6 * SECOND),
    ]

    events = list(events_of("job", iter(spans), now=10 * SECOND))

    assert broken_rules({"traceEvents": events}) == []
    runs = [event for event in events if event["ph"] == "X"]
    assert [event["args"]["outcome"] for event in runs] == [span.state for span in spans]
    assert [event["dur"] for event in runs if event["name"] == "Test4"] == [6 * SECOND]
    assert len([event for event in events if event["ph"] == "b"]) == len(spans)


def test_a_trace_of_more_than_a_day_keeps_its_days() -> None:
    late = span(0, started=2 * 86_400 * SECOND, ended=2 * 86_400 * SECOND + 1)

    (run,) = [event for event in events_of("job", iter([late]), now=0) if event["ph"] == "X"]

    assert (run["ts"], run["dur"]) == (2 * 86_400 * SECOND, 1)


def test_an_attempt_that_was_canceled_before_it_ran_is_not_in_the_download() -> None:
    assert list(events_of("job", iter([span(0, "canceled", started=None)]), now=10 * SECOND)) == []


def test_what_waits_is_no_run_of_the_download() -> None:
    handed_back = span(0, "waiting", ended=None)

    assert list(events_of("job", iter([handed_back]), now=10 * SECOND)) == []


@pytest.mark.parametrize(
    "event",
    [
        {"ph": "X", "name": "a", "cat": "run", "pid": "slave", "tid": 0, "ts": 0, "dur": 1},
        {"ph": "X", "name": "a", "cat": "run", "pid": 1, "tid": 1, "ts": 0, "dur": 1},
        {"ph": "b", "name": "a", "cat": "wait", "id": "1", "pid": 1, "tid": 1, "ts": 0},
    ],
    ids=["a process that is no number", "a thread without a name", "a wait without an end"],
)
def test_the_rules_find_what_is_broken(event: dict[str, object]) -> None:
    assert broken_rules({"traceEvents": [event]}) != []


def test_a_long_tail_is_explained() -> None:
    text = tail_of(SUBMIT, [share(last_start=60, last_end=300)], last(started=10, ended=300))

    assert text == (
        "FooTest ended last, on s1: it ran for 4 min, 30 s were expected. Nothing was left to start for the last"
        " 4 min, 80% of the job."
    )


def test_a_new_test_at_the_end_is_called_new() -> None:
    text = tail_of(SUBMIT, [share(last_start=60, last_end=300)], last(started=10, ended=300, expected=None))

    assert text is not None
    assert "it was new" in text


def test_a_job_without_a_tail_only_says_what_ended_last() -> None:
    shares = [share(last_start=290, last_end=299), share(last_start=5, last_end=300, slave="s2")]

    assert tail_of(SUBMIT, shares, last(started=290, ended=300)) == "FooTest ended last, on s1."
    assert tail_of(SUBMIT, shares, None) is None
