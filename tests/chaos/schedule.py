"""Which faults happen when, drawn from a seed: the same seed gives the same schedule.

What must not happen to a task is ruled out here, not forgiven later:

- An attempt ends as `lost` when four leases on it lapse. Faults that let leases lapse are so far apart that whoever
  takes over has the time to finish, and four of them further than an attempt waits for its upload while S3 is away.
- A task ends as `setup_failed` when three of its attempts met no isolate server. It is away MAX_ISOLATE_OUTAGES times,
  each time too briefly for two attempts of a task.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

MARIADB, BEANSTALKD, S3, ISOLATE, MASTER = "mariadb", "beanstalkd", "s3", "isolate", "master"
SERVERS = (MARIADB, BEANSTALKD, S3, ISOLATE, MASTER)
SLAVE = "slave"
ROLES = (*SERVERS, SLAVE)

# A lease lapses 4 s after its slave fell silent, and is taken over; a second later the attempt is recorded.
_TAKEOVER_SECONDS = {SLAVE: 6.5, MARIADB: 2.5}
FOUR_LAPSES_SECONDS = 30.0  # at least, from the first of four faults that let leases lapse to the last
MAX_ISOLATE_OUTAGES = 2  # one less than the failed setups that end a task
_TRIES = 1000  # to find a time for a fault that there must be
_MEAN_GAP_SECONDS = 0.5  # between two that are drawn; about every second one finds no room
_RECOVERY_SECONDS = {MARIADB: 4.0, BEANSTALKD: 2.0, S3: 4.0, ISOLATE: 2.0, MASTER: 3.0, SLAVE: 3.0}
# Some are shorter than leases, some longer. Uploads are tried for 12 s.
_LONGEST_SECONDS = {MARIADB: 7.0, BEANSTALKD: 6.0, S3: 6.0, ISOLATE: 6.0, MASTER: 6.0, SLAVE: 8.0}
# A setup fails for good after 2.5 s, and is tried again 5 s later at the earliest.
_LONGEST_ISOLATE_OUTAGE_SECONDS = 4.0


class Kind(Enum):
    """What is done to a program. All but `FREEZE`, `FREEZE_WORKER` and `STALL` break its connections."""

    KILL = "kill"  # SIGKILL, and a start after the fault's time
    RESTART = "restart"  # SIGTERM, and a start
    EVICT = "evict"  # SIGTERM twice: a slave hands back what it runs
    FREEZE = "freeze"  # SIGSTOP, and SIGCONT after the fault's time; with all its descendants, as a machine would
    KILL_WORKER = "kill a worker of"
    FREEZE_WORKER = "freeze a worker of"
    CUT = "cut off"  # connections are dropped, and new ones too until the fault's time is over
    STALL = "stall"  # nothing passes for the fault's time, then all of it
    WIPE = "wipe"  # killed, and started without its disk

    @property
    def is_outage(self) -> bool:
        """Whether clients are refused meanwhile, instead of kept waiting."""
        return self in (Kind.KILL, Kind.RESTART, Kind.EVICT, Kind.CUT, Kind.WIPE)


_ANYWHERE = (Kind.KILL, Kind.RESTART, Kind.FREEZE, Kind.CUT, Kind.STALL)
_KINDS = {
    **dict.fromkeys(SERVERS, _ANYWHERE),
    SLAVE: (*_ANYWHERE, Kind.KILL, Kind.FREEZE, Kind.EVICT),
    MASTER: (*_ANYWHERE, Kind.KILL_WORKER, Kind.FREEZE_WORKER),
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that happens to a server or to `slave-N`. `worker` chooses among the workers, whatever their number."""

    at_seconds: float
    target: str
    kind: Kind
    lasts_seconds: float
    worker: int = 0

    @property
    def role(self) -> str:
        return SLAVE if self.target.startswith(SLAVE) else self.target

    @property
    def over_seconds(self) -> float:
        """When its target is expected to work again."""
        return self.at_seconds + self.lasts_seconds + _RECOVERY_SECONDS[self.role]

    @property
    def ends_leases(self) -> bool:
        """Whether leases may lapse: their slave is silent, or the database that keeps them."""
        is_orderly = self.kind in (Kind.RESTART, Kind.EVICT)
        return self.role == MARIADB or (self.role == SLAVE and not is_orderly)

    @property
    def settled_seconds(self) -> float:
        """When other slaves are expected to have done what this one let lapse, if it `ends_leases`."""
        # What a slave ran is taken over while it is still away, but nobody can while the database is.
        begin = self.over_seconds if self.role == MARIADB else self.at_seconds
        return begin + _TAKEOVER_SECONDS[self.role]

    def __str__(self) -> str:
        lasts = "" if self.kind is Kind.KILL_WORKER else f" for {self.lasts_seconds:.1f} s"
        return f"{self.kind.value} {self.target}{lasts}"


def draw(seed: int, *, seconds: float, slaves: int) -> list[Fault]:
    """Faults whose begins fill `seconds`, in their order: each role is killed at least once, beanstalkd wiped once."""
    rng = random.Random(seed)
    faults: list[Fault] = []
    for target, kind in ((BEANSTALKD, Kind.WIPE), *((role, Kind.KILL) for role in ROLES)):
        for _ in range(_TRIES):
            fault = _fault(rng, rng.uniform(1, 0.9 * seconds), target, kind, slaves)
            if _has_room(fault, faults):
                faults.append(fault)
                break
    at_seconds = 1.0
    while at_seconds < seconds:
        role = rng.choice((*ROLES, SLAVE, SLAVE))  # there are several
        fault = _fault(rng, at_seconds, role, rng.choice(_KINDS[role]), slaves)
        if _has_room(fault, faults):
            faults.append(fault)
        at_seconds += rng.expovariate(1 / _MEAN_GAP_SECONDS)
    return sorted(faults, key=lambda fault: fault.at_seconds)


def _fault(rng: random.Random, at_seconds: float, role: str, kind: Kind, slaves: int) -> Fault:
    longest = _LONGEST_ISOLATE_OUTAGE_SECONDS if role == ISOLATE and kind.is_outage else _LONGEST_SECONDS[role]
    return Fault(
        at_seconds=at_seconds,
        target=f"{SLAVE}-{rng.randrange(slaves)}" if role == SLAVE else role,
        kind=kind,
        # Every third one is as short as can be: down and up again, connections dropped once.
        lasts_seconds=rng.choice((0.2, *(rng.uniform(0.2, longest),) * 2)),
        worker=rng.randrange(2**16),
    )


def _has_room(fault: Fault, others: Sequence[Fault]) -> bool:
    if any(_are_too_close(fault, other) for other in others) or _may_lose_an_attempt((fault, *others)):
        return False
    outages = sum(other.role == ISOLATE and other.kind.is_outage for other in others)
    return not (fault.role == ISOLATE and fault.kind.is_outage and outages >= MAX_ISOLATE_OUTAGES)


def _are_too_close(one: Fault, other: Fault) -> bool:
    earlier, later = sorted((one, other), key=lambda fault: fault.at_seconds)
    if earlier.ends_leases and later.ends_leases and later.at_seconds < earlier.settled_seconds:
        return True
    return earlier.target == later.target and later.at_seconds < earlier.over_seconds


def _may_lose_an_attempt(faults: Sequence[Fault]) -> bool:
    times = sorted(fault.at_seconds for fault in faults if fault.ends_leases)
    return any(fourth - first < FOUR_LAPSES_SECONDS for first, fourth in zip(times, times[3:], strict=False))
