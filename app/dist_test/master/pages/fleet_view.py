"""The slaves as the first page lists them. PURE."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from dist_test.storage.jobs import RunningAttempt
from dist_test.storage.slaves import Slave

GONE_SHOWN = timedelta(days=1)
# Of thousands of slots the page would have megabytes: then it has the longest of each slave, and a link to all of them.
MOST_RUNS_SHOWN = 640
FEWEST_RUNS_SHOWN = 2  # of each slave
_TROUBLES = ("quarantined", "preempted", "draining", "drained")


@dataclass(frozen=True, kw_only=True)
class SlaveView:
    """A slave, its state in a word, and the attempts that ran longest on it of the `runs_count` that run."""

    slave: Slave
    state: str
    runs: Sequence[RunningAttempt]
    runs_count: int


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """live: those in trouble first. gone: lately, the last one first. gone_before: how many are gone for longer."""

    live: Sequence[SlaveView]
    gone: Sequence[SlaveView]
    gone_before: int


def view_fleet(slaves: Sequence[Slave], running: Sequence[RunningAttempt]) -> FleetView:
    """Put together who runs what. `running` is in the order in which it is shown."""
    runs = _by_slave(running)
    most = max(FEWEST_RUNS_SHOWN, MOST_RUNS_SHOWN // max(1, len(runs)))
    views = [view_slave(slave, runs[slave.slave_id], most=most) for slave in slaves]
    gone = [view for view in views if not view.slave.is_live]
    lately = [view for view in gone if view.slave.silent_for < GONE_SHOWN]
    return FleetView(
        live=sorted((view for view in views if view.slave.is_live), key=_urgency),
        gone=sorted(lately, key=lambda view: view.slave.silent_for),
        gone_before=len(gone) - len(lately),
    )


def view_slave(slave: Slave, runs: Sequence[RunningAttempt], *, most: int | None = None) -> SlaveView:
    """One slave with at most `most` of what it runs."""
    return SlaveView(
        slave=slave, state=slave.state if slave.is_live else "gone", runs=runs[:most], runs_count=len(runs)
    )


def _by_slave(running: Sequence[RunningAttempt]) -> defaultdict[str, list[RunningAttempt]]:
    found: defaultdict[str, list[RunningAttempt]] = defaultdict(list)
    for attempt in running:
        found[attempt.slave_id].append(attempt)
    return found


def _urgency(view: SlaveView) -> tuple[int, str]:
    place = _TROUBLES.index(view.state) if view.state in _TROUBLES else len(_TROUBLES)
    return place, view.slave.slave_id
