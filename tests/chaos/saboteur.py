"""Work off a schedule of faults, each target in its own time, and remember what happened when."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .cluster import Cluster
from .schedule import Fault


@dataclass(frozen=True, kw_only=True)
class Happened:
    """A fault that is over: its target was up again at `ended`."""

    fault: Fault
    began: datetime
    ended: datetime

    def touches(self, begin: datetime, end: datetime, *, linger: timedelta = timedelta(0)) -> bool:
        """Whether any of it, or of the time `linger` after it, lies between two moments."""
        return self.began <= end and begin <= self.ended + linger


class Saboteur:
    """Faults that happen beside the work of a cluster: start(), then join()."""

    def __init__(self, cluster: Cluster, faults: Sequence[Fault], say: Callable[[str], None]) -> None:
        self.happened: list[Happened] = []
        self._cluster = cluster
        self._say = say
        self._stopped = threading.Event()
        self._by_target: dict[str, list[Fault]] = {}
        for fault in faults:
            self._by_target.setdefault(fault.target, []).append(fault)
        self._pool = ThreadPoolExecutor(max_workers=max(1, len(self._by_target)), thread_name_prefix="faults")

    def start(self) -> None:
        """Begin; the schedule's time is counted from here."""
        self._began = time.monotonic()
        self._work = [self._pool.submit(self._work_off, faults) for faults in self._by_target.values()]

    def join(self) -> None:
        """Wait until all is over. Raises what a fault raised."""
        for work in self._work:
            work.result()

    def stop(self) -> None:
        """Begin no more faults, and wait until those under way are over."""
        self._stopped.set()
        self._pool.shutdown(wait=True)

    def _work_off(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            if self._stopped.wait(max(0.0, self._began + fault.at_seconds - time.monotonic())):
                return
            began = datetime.now(UTC)
            self._say(str(fault))
            self._cluster.inflict(fault)
            self.happened.append(Happened(fault=fault, began=began, ended=datetime.now(UTC)))
