"""A job's attempts as trace events, as Chromium and Perfetto read them. PURE.

The format is Google's "Trace Event Format" in its JSON form. Times are microseconds. Viewers want whole numbers for
processes and threads, and their names in events of their own: a slave is a process, a slot a thread.
"""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Event = dict[str, Any]

QUEUE_PROCESS = 0
MOST_QUEUE_LENGTHS = 1000
# Names that the format reserves for colours.
_COLOURS = {
    "running": "thread_state_running",
    "succeeded": "good",
    "failed": "terrible",
    "timed_out": "bad",
    "canceled": "grey",
    "setup_failed": "olive",
    "lost": "black",
}


class Lanes:
    """Places what one slave ran, in the order of the starts, on the fewest lanes on which nothing overlaps."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._taken: list[tuple[int, int]] = []  # the end, and the lane

    def place(self, start: int, end: int) -> int:
        """The lane, from 0, of what runs from `start` to `end`; of the free ones the first."""
        while self._taken and self._taken[0][0] <= start:
            heapq.heappush(self._free, heapq.heappop(self._taken)[1])
        lane = heapq.heappop(self._free) if self._free else len(self._taken)
        heapq.heappush(self._taken, (end, lane))
        return lane


class Slots:
    """Numbers slaves and their lanes as they turn up, and names each once."""

    def __init__(self) -> None:
        self._processes: dict[str, int] = {}
        self._lanes: dict[str, Lanes] = {}
        self._named: set[tuple[int, int]] = set()

    def place(self, slave_id: str, start: int, end: int) -> tuple[int, int]:
        """The process and the thread of what the slave ran; both from 1. Starts may not go back."""
        process = self._processes.setdefault(slave_id, len(self._processes) + 1)
        return process, self._lanes.setdefault(slave_id, Lanes()).place(start, end) + 1

    def names(self, slave_id: str, process: int, thread: int) -> Iterator[Event]:
        """The events that name a process and a thread, unless they were given before."""
        if (process, 0) not in self._named:
            yield _name("process_name", slave_id, process, 0)
        if (process, thread) not in self._named:
            yield _name("thread_name", f"slot {thread}", process, thread)
        self._named |= {(process, 0), (process, thread)}


def _name(kind: str, name: str, process: int, thread: int) -> Event:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def run_event(name: str, state: str, *, place: tuple[int, int], start: int, end: int, args: Mapping[str, Any]) -> Event:
    """What ran, as a complete event. cat, ph, name, ts and dur are as the original had them."""
    return {
        "cat": "run",
        "ph": "X",
        "name": name,
        "pid": place[0],
        "tid": place[1],
        "ts": start,
        "dur": end - start,
        "cname": _COLOURS.get(state, "generic_work"),
        "args": dict(args),
    }


def wait_events(name: str, wait_id: str, *, queued: int, started: int) -> Iterator[Event]:
    """Its time in the queue, as the two ends of an asynchronous event; nothing when it did not wait."""
    if started > queued:
        shared = {"cat": "wait", "name": name, "id": wait_id, "pid": QUEUE_PROCESS, "tid": 0}
        yield {**shared, "ph": "b", "ts": queued}
        yield {**shared, "ph": "e", "ts": started}


def queue_events(waits: Iterable[tuple[int, int]]) -> Iterator[Event]:
    """The length of the queue over time as counters, at most MOST_QUEUE_LENGTHS of them: `waits` are (from, to)."""
    steps = sorted(itertools.chain.from_iterable(((start, 1), (end, -1)) for start, end in waits))
    if not steps:
        return
    yield _name("process_name", "queue", QUEUE_PROCESS, 0)
    lengths = list(itertools.accumulate(step for _, step in steps))
    apart = max(1, (steps[-1][0] - steps[0][0]) // (MOST_QUEUE_LENGTHS - 1))
    due = steps[0][0]
    for place, (time, _) in enumerate(steps):
        is_last = place + 1 == len(steps)
        if is_last or (time >= due and steps[place + 1][0] > time):
            yield {
                "ph": "C",
                "name": "waiting",
                "pid": QUEUE_PROCESS,
                "tid": 0,
                "ts": time,
                "args": {"attempts": lengths[place]},
            }
            due = time + apart
