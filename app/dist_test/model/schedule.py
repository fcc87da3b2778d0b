"""Who runs next: longest expected first inside a job, fair between owners, all of it in one number for each attempt.

Start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM '96) needs only a tag for each task, in seconds of virtual time;
beanstalkd's priority (0 to 2**32 - 1, the lowest is reserved first, equal ones in the order of arrival) carries it.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_PRIORITY = 2**32 - 1  # beanstalkd doc/protocol.txt: an integer below 2**32
FIRST_BAND = 65_536  # first attempts, by tag; retries lie below, promoted jobs below those
RETRY_BAND = 1_024
RETRY_TOP = FIRST_BAND - 1
PROMOTED_FIRST_BAND = 64  # first attempts of promoted jobs; their retries lie below, as retries do elsewhere
UNKNOWN_SECONDS = 30.0  # charged for a task without history in a job without any
HISTORY_WEIGHT = 0.7  # the original's: new = 0.7 old + 0.3 observed
MIN_RETRIES_BOOSTED = 16
RETRY_SHARE_BOOSTED = 0.05  # more would let a job of failing tests run before everybody


@dataclass(frozen=True, kw_only=True)
class Tag:
    """Virtual start and finish of an attempt, in seconds."""

    start: float
    finish: float


def order(expected: Sequence[float | None]) -> list[int]:
    """The places of tasks in the order to run them: never seen first, then longest expected first, then as given."""
    return sorted(range(len(expected)), key=lambda place: urgency(expected[place]))


def urgency(seconds: float | None) -> tuple[int, float]:
    """Sorts tasks by what is expected of them: never seen first, then longest expected first."""
    return (0, 0.0) if seconds is None else (1, -seconds)


def charges(expected: Sequence[float | None]) -> list[float]:
    """What each task costs its owner, in seconds: what is expected, or the median of the job's known tasks."""
    known = [seconds for seconds in expected if seconds is not None]
    unknown = statistics.median(known) if known else UNKNOWN_SECONDS
    return [unknown if seconds is None else seconds for seconds in expected]


def tags(costs: Iterable[float], *, start: float, weight: float) -> list[Tag]:
    """Tags for an owner's attempts in the order to run them, from `start` on; a heavier owner's advance more slowly."""
    given = []
    for cost in costs:
        tag = Tag(start=start, finish=start + cost / weight)
        given.append(tag)
        start = tag.finish
    return given


def first_priority(start_tag: float) -> int:
    """The queue priority of a start tag. Past 2**32 all are equal: first in, first out."""
    return min(FIRST_BAND + int(start_tag), MAX_PRIORITY)


def retry_priority(attempt: int) -> int:
    """The queue priority of retry number `attempt`: before all first attempts, a later retry before an earlier one."""
    return max(RETRY_TOP - attempt, RETRY_BAND)


def is_promoted(priority: int) -> bool:
    """Whether the priority lies in the band of promoted jobs."""
    return priority < RETRY_BAND


def promoted_priority(place: int, total: int) -> int:
    """The queue priority of a promoted job's first attempt, by its place in the order of `total` that are promoted.

    Spread over the band, so that what is put again later comes near its old place.
    """
    return PROMOTED_FIRST_BAND + place * (RETRY_BAND - PROMOTED_FIRST_BAND) // total


def promoted_retry_priority(attempt: int) -> int:
    """The queue priority of a promoted job's retry number `attempt`: as `retry_priority`, in the band above all."""
    return max(PROMOTED_FIRST_BAND - attempt, 0)


@dataclass(frozen=True, kw_only=True)
class Move:
    """An attempt that goes from one queue priority to another. `seconds` are what is expected of it."""

    before: int
    after: int
    seconds: float


def seconds_put_ahead(moves: Iterable[Move], priority: int) -> float:
    """The expected work that moves from behind an attempt of this priority to before it, in seconds of one slot."""
    return sum(move.seconds for move in moves if move.after < priority <= move.before)


def retries_boosted(attempts: int) -> int:
    """How many retries may stand before everybody's first attempts, of so many attempts of their job.

    Asked with a job's tasks it limits what waits there; with the attempts that have ended, what ever stood there.
    """
    return max(MIN_RETRIES_BOOSTED, int(RETRY_SHARE_BOOSTED * attempts))


def learn(known: float | None, observed: float) -> float:
    """The expected seconds after one more run."""
    return observed if known is None else HISTORY_WEIGHT * known + (1 - HISTORY_WEIGHT) * observed
