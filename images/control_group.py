"""A control group of its own for each machine, where no systemd of this computer hands one out.

Without it all machines that run at a time would share one: each one's systemd makes and removes groups such as
/system.slice/ssh.service, and would take away what another one's has just made. Units then fail at random, with status
219/CGROUP.
"""

import errno
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Where systemd inside the machine keeps its groups: of version 1 with and without version 2 beside it, or 2 alone.
_HIERARCHIES = (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_ENDING_SECONDS = 20
_POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class ControlGroup:
    """`name` is unique on this computer."""

    name: str

    def make(self) -> list[Path]:
        """Make it; the files that take the number of a process which is to join it with all its children."""
        directories = list(self._directories())
        for directory in directories:
            directory.mkdir(exist_ok=True)
        return [directory / "cgroup.procs" for directory in directories]

    def delete(self) -> None:
        """Remove it with the groups below, whose processes may be ending just now. What is not there is fine."""
        deadline = time.monotonic() + _ENDING_SECONDS
        for directory in self._directories():
            for path, _, _ in os.walk(directory, topdown=False):
                _remove(Path(path), deadline)

    def _directories(self) -> Iterator[Path]:
        for hierarchy in _HIERARCHIES:
            if (hierarchy / "cgroup.procs").exists():
                yield hierarchy / self.name


def _remove(group: Path, deadline: float) -> None:
    while True:
        try:
            group.rmdir()
        except OSError as exc:
            # A killed process is counted until it is gone; its init's end does not wait for that of the group's others.
            if exc.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(_POLL_SECONDS)
