"""The warm layer: what hosts downloaded while they were deployed to, kept so that the next ones need not.

It lies between the root tree and each host's own disk: apt's archives and package lists, pip's cache. A host without
it downloads; nothing else differs.
"""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from images.commands import run
from images.machine import Machine
from images.root_tree import RootTree, locked

_KEPT = ("var/cache/apt/archives", "var/lib/apt/lists", "root/.cache/pip")
# Debian removes a package from its mirrors soon after a newer one came: older lists would name what is gone.
_MAX_AGE_SECONDS = 3 * 24 * 3600


@dataclass(frozen=True, kw_only=True)
class WarmLayer:
    """What was harvested from hosts on `tree`; one layer for each version of it."""

    tree: RootTree

    def find(self) -> Path | None:
        """The newest harvest of the last three days; None: there is none, hosts download."""
        fresh = [path for path in self._harvests() if time.time() - path.stat().st_mtime < _MAX_AGE_SECONDS]
        return fresh[-1] if fresh else None

    def top_up(self, hosts: Iterable[Machine]) -> Path:
        """Harvest if one of these had to download a package; the newest layer."""
        hosts = list(hosts)
        found = self.find()
        return self.harvest(hosts) if found is None or any(map(_has_downloaded, hosts)) else found

    def harvest(self, hosts: Iterable[Machine]) -> Path:
        """Keep what these have downloaded and what they were given; the newest layer. They should be idle."""
        with locked(self._stem):
            path = self._stem.with_name(f"{self._stem.name}.{time.time_ns()}")
            path.mkdir()
            for host in hosts:
                _copy(host.root, path)
            path.rename(f"{path}.d")
            self._remove_older()
        return self._harvests()[-1]

    @property
    def _stem(self) -> Path:
        return self.tree.cache_dir / f"warm-{self.tree.suite}-{self.tree.fingerprint}"

    def _harvests(self) -> list[Path]:
        return sorted(self._stem.parent.glob(f"{self._stem.name}.*.d"))

    def _remove_older(self) -> None:
        mounted = Path("/proc/mounts").read_text()
        for path in self._harvests()[:-1]:
            if str(path) not in mounted:
                shutil.rmtree(path)


def _has_downloaded(host: Machine) -> bool:
    return any((host.disk / "var/cache/apt/archives").glob("*.deb"))


def _copy(root: Path, layer: Path) -> None:
    """Add what the layer has not got. Modes and owners, those of the directories above too, hide the tree's."""
    kept = [name for name in _KEPT if (root / name).is_dir()]
    run("cp", "--archive", "--no-clobber", "--parents", *kept, layer, directory=root)
