"""A job's attempts as trace events."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_test.model.trace import (
    MOST_QUEUE_LENGTHS,
    QUEUE_PROCESS,
    Lanes,
    Slots,
    queue_events,
    run_event,
    wait_events,
)

INTERVALS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20)), max_size=40)


@given(INTERVALS)
def test_a_lane_holds_one_thing_at_a_time_and_there_are_no_more_lanes_than_needed(drawn: list[tuple[int, int]]) -> None:
    runs = sorted((start, start + length) for start, length in drawn)
    lanes = Lanes()

    placed = [(lanes.place(start, end), start, end) for start, end in runs]

    for (lane, _, end), (other, start, _) in itertools.combinations(placed, 2):
        assert lane != other or end <= start
    # What comes is one more than what has begun and not ended.
    needed = [1 + sum(end > start for _, end in runs[:place]) for place, (start, _) in enumerate(runs)]
    assert len({lane for lane, *_ in placed}) == max(needed, default=0)


@pytest.mark.parametrize(
    ("runs", "lanes"),
    [
        ([(0, 10), (10, 20)], [0, 0]),
        ([(0, 10), (5, 15), (10, 20)], [0, 1, 0]),
        ([(0, 30), (1, 5), (2, 4), (6, 9)], [0, 1, 2, 1]),
    ],
    ids=["one after the other", "the first that is free", "the lowest of the free"],
)
def test_lanes_are_filled_from_the_first(runs: list[tuple[int, int]], lanes: list[int]) -> None:
    made = Lanes()

    assert [made.place(start, end) for start, end in runs] == lanes


def test_a_slave_and_a_slot_are_named_once() -> None:
    slots = Slots()
    first, second = slots.place("b", 0, 5), slots.place("b", 6, 9)

    assert first == second == (1, 1)
    assert [event["args"]["name"] for event in slots.names("b", *first)] == ["b", "slot 1"]
    assert list(slots.names("b", *second)) == []
    assert slots.place("a", 7, 8) == (2, 1)


def test_what_ran_has_the_originals_fields_and_a_reserved_colour() -> None:
    event = run_event("FooTest", "failed", place=(2, 1), start=100, end=350, args={"attempt": 0})

    assert event == {
        "cat": "run",
        "ph": "X",
        "name": "FooTest",
        "pid": 2,
        "tid": 1,
        "ts": 100,
        "dur": 250,
        "cname": "terrible",
        "args": {"attempt": 0},
    }


def test_a_wait_begins_and_ends_under_one_id() -> None:
    begin, end = wait_events("FooTest", "0.0", queued=5, started=9)

    assert (begin["ph"], begin["ts"], end["ph"], end["ts"]) == ("b", 5, "e", 9)
    assert {key: begin[key] for key in ("cat", "name", "id", "pid")} == {
        "cat": "wait",
        "name": "FooTest",
        "id": "0.0",
        "pid": QUEUE_PROCESS,
    }
    assert list(wait_events("FooTest", "0.0", queued=9, started=9)) == []


def test_the_queue_is_counted_where_its_length_changes() -> None:
    _, *counters = queue_events([(0, 10), (0, 20), (15, 20)])

    assert [(event["ts"], event["args"]["attempts"]) for event in counters] == [(0, 2), (10, 1), (15, 2), (20, 0)]


def test_a_long_queue_is_thinned_out_and_ends_empty() -> None:
    _, *counters = queue_events((number, 100_000 + number) for number in range(50_000))

    assert len(counters) <= MOST_QUEUE_LENGTHS + 1
    assert counters[-1]["args"]["attempts"] == 0
    assert max(event["args"]["attempts"] for event in counters) > 49_000


def test_nothing_waited_when_nothing_ran() -> None:
    assert list(queue_events([])) == []
