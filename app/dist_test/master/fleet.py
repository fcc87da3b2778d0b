"""The commands about slaves: `slaves`, `drain` and `resume`."""

import json
import time
from collections.abc import Callable, Sequence

from dist_test.master.documents import slave_document
from dist_test.storage.database import Database
from dist_test.storage.jobs import Jobs, RunningAttempt
from dist_test.storage.slaves import Slave, Slaves

Say = Callable[[str], None]

POLL_SECONDS = 1.0  # slaves say something new every five seconds
_COLUMNS = ("SLAVE", "STATE", "BUSY", "WANT", "HEARTBEAT", "VERSION", "MESSAGE")


def list_slaves(database: Database, say: Say, *, as_json: bool) -> None:
    """Print every slave that ever registered: for people, or as `/api/v1/slaves` has them."""
    slaves = Slaves(database).all()
    if as_json:
        say(json.dumps({"slaves": [slave_document(slave) for slave in slaves]}, indent=2))
        return
    for line in _table([_COLUMNS, *map(_row, slaves)]):
        say(line)


def set_wanted(database: Database, names: Sequence[str], want: str) -> None:
    """Ask slaves to `run` or to `drain`: none of them, when one is not known. Raises SlaveNotFound."""
    slaves = Slaves(database)
    for name in names:
        slaves.get(name)
    for name in names:
        slaves.want(name, want)


class Drain:
    """The wait for slaves that were just asked to drain."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._slaves = Slaves(database)
        self._jobs = Jobs(database)
        self._clock = clock
        self._sleep = sleep
        self._asked_at = clock()

    def wait(self, names: Sequence[str], *, seconds: float, say: Say) -> bool:
        """Wait until none of the slaves runs anything; False, with what still runs, when it takes too long.

        A slave is drained when a heartbeat from after the asking says so, and gone when it has none for a minute.
        """
        left = list(names)
        while left := [name for name in left if not self._has_stopped(name, say)]:
            if self._clock() - self._asked_at >= seconds:
                self._say_what_runs(left, say)
                return False
            self._sleep(POLL_SECONDS)
        return True

    def _has_stopped(self, name: str, say: Say) -> bool:
        waited = self._clock() - self._asked_at
        slave = self._slaves.get(name)
        if not slave.is_live:
            say(f"{name} is gone: its last heartbeat was {slave.silent_for.total_seconds():.0f} s ago")
            return True
        # A heartbeat from before may say `drained` of a slave that was told to resume a moment ago.
        is_drained = slave.state == "drained" and slave.silent_for.total_seconds() < waited
        # A result that is not recorded yet counts as running.
        if not is_drained or self._jobs.running_on(name):
            return False
        say(f"{name} is drained")
        return True

    def _say_what_runs(self, names: Sequence[str], say: Say) -> None:
        for name in names:
            slave = self._slaves.get(name)
            say(f"{name} is not drained: {slave.state}, {slave.busy} of {slave.slots} slots busy")
            for running in self._jobs.running_on(name):
                say(f"  {_line(running)}")


def _line(running: RunningAttempt) -> str:
    key = running.key
    since = f"{running.started_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"job {running.job_id} task {key.task} attempt {key.attempt} since {since}: {running.description}"


def _row(slave: Slave) -> tuple[str, ...]:
    return (
        slave.slave_id,
        slave.state if slave.is_live else "gone",
        f"{slave.busy} of {slave.slots}",
        slave.want,
        f"{slave.silent_for.total_seconds():.0f} s ago",
        slave.version,
        slave.message,
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
