"""What a document has to keep to be opened as trace events.

The rules are those of Google's "Trace Event Format" (the JSON Object Format; Event Descriptions; Complete, Async,
Counter and Metadata Events), as far as they are about the kinds of events that we write.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Event = Mapping[str, Any]

PHASES = {"X", "M", "C", "b", "e"}
NAMES_OF_METADATA = {"process_name", "process_labels", "process_sort_index", "thread_name", "thread_sort_index"}
# "cname must be one of the names in the list of reserved colours": those of them that tell an outcome.
COLOURS = {
    "thread_state_running",
    "generic_work",
    "good",
    "bad",
    "terrible",
    "black",
    "grey",
    "white",
    "yellow",
    "olive",
}


def broken_rules(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a document, in words; empty when nothing is."""
    events = document.get("traceEvents")
    if not isinstance(events, list):
        return ["traceEvents is no list"]
    broken = [f"{rule}: {event}" for event in events for rule in _of_one(event)]
    return broken + list(_of_threads(events)) + list(_of_waits(events))


def _of_one(event: Event) -> Iterator[str]:
    phase = event.get("ph")
    if phase not in PHASES:
        yield "ph is no kind of event that we write"
    if type(event.get("pid")) is not int or type(event.get("tid")) is not int:
        yield "pid and tid are whole numbers"
    if not isinstance(event.get("name"), str) or not isinstance(event.get("args", {}), dict):
        yield "name is a text and args an object"
    if phase != "M" and (type(event.get("ts")) is not int or event["ts"] < 0):
        yield "ts is a number of microseconds"
    if phase == "X" and (type(event.get("dur")) is not int or event["dur"] < 0):
        yield "a complete event has a duration"
    if phase in ("X", "b", "e") and not isinstance(event.get("cat"), str):
        yield "an event has its categories as a text"
    if phase == "M" and (event["name"] not in NAMES_OF_METADATA or not isinstance(event["args"].get("name"), str)):
        yield "metadata has a known name and names something"
    if phase == "C" and not all(isinstance(value, int) for value in event["args"].values()):
        yield "a counter counts numbers"
    if event.get("cname", "good") not in COLOURS:
        yield "cname is reserved"


def _of_threads(events: Sequence[Event]) -> Iterator[str]:
    """Complete events of a thread nest; ours, which are of one slot, even follow one another. Each place has a name."""
    ends: dict[tuple[int, int], int] = {}
    named = {(event["name"], event["pid"], event["tid"]) for event in events if event["ph"] == "M"}
    for event in sorted((event for event in events if event["ph"] == "X"), key=lambda event: event["ts"]):
        place = (event["pid"], event["tid"])
        if event["ts"] < ends.get(place, 0):
            yield f"two events of one thread overlap: {event}"
        ends[place] = event["ts"] + event["dur"]
        if ("thread_name", *place) not in named or ("process_name", event["pid"], 0) not in named:
            yield f"the thread or its process has no name: {event}"


def _of_waits(events: Sequence[Event]) -> Iterator[str]:
    """An asynchronous event begins and ends once, with the same category, id and name."""
    open_waits: dict[tuple[str, str, str], int] = {}
    for event in events:
        if event["ph"] not in ("b", "e"):
            continue
        key = (event["cat"], event["id"], event["name"])
        if event["ph"] == "b":
            if key in open_waits:
                yield f"begins twice: {event}"
            open_waits[key] = event["ts"]
        elif event["ts"] < open_waits.pop(key, event["ts"] + 1):
            yield f"ends before it begins, or without a beginning: {event}"
    yield from (f"never ends: {key}" for key in open_waits)
