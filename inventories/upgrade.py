"""Move a cluster to this checkout's release with pyinfra: python -m inventories.upgrade NAME [--batch 25%]

Each stage is a run of pyinfra with playbooks/upgrade.py on the hosts of the stage:

1. The release is installed beside the one that runs, everywhere.
2. The hosts that hold state move; then masters and isolate servers, one after the other; then autoscalers, likewise;
   then slaves, in batches.
3. When a stage fails, there is no further one: hosts go back to what they had, slaves in batches again.

Exit status: 0 all hosts have moved, 2 the upgrade failed. The same as playbooks/upgrade.yml.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from inventories import loader
from inventories.cluster import ROOT, Cluster, InventoryError
from inventories.deployment import FAILED, environment_of, limit_words, run_pyinfra

BATCH = "25%"
_STATE = {"database", "queue", "object_store"}
_SERVERS = {"masters", "isolate_servers"}
_PLAYBOOK = "playbooks/upgrade.py"


class Step(StrEnum):
    """What playbooks/upgrade.py does in one run."""

    PREPARE = "prepare"
    STATE = "state"
    SERVER = "server"
    AUTOSCALER = "autoscaler"
    SLAVE = "slave"
    BACKUP = "backup"
    BACK = "back"
    FORGET = "forget"
    ACCOUNT = "account"


MOVING = (Step.STATE, Step.SERVER, Step.AUTOSCALER, Step.SLAVE, Step.BACKUP)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step, on hosts that take it at the same time."""

    step: Step
    hosts: tuple[str, ...]


def batch_size(batch: str, slaves: int) -> int:
    """How many of so many slaves "3" or "25%" are; at least one."""
    number = int(batch.removesuffix("%"))
    return max(1, slaves * number // 100 if batch.endswith("%") else number)


def release_of(cluster: Cluster) -> str:
    """What the upgrade is to. Its name depends on the wheel, which anybody may build anew meanwhile.

    Raises InventoryError when the inventory gives hosts different ones.
    """
    releases = sorted({release_of_host(host.roles["base"].vars) for host in cluster.hosts.values()})
    if len(releases) > 1:
        raise InventoryError(f"base_release is {' and '.join(releases)}; an upgrade is to one release on all hosts")
    return releases[0]


def release_of_host(base: Mapping[str, Any]) -> str:
    """The name of the release, from the variables of the role base, without the extras that only this host has."""
    return str(base["base_release"]).removesuffix("".join(f"-{extra}" for extra in sorted(base["base_extras"])))


def moves(cluster: Cluster, batch: str) -> list[Stage]:
    """The stages that move hosts, in their order."""
    state = [name for name in cluster.hosts if _moves_first(set(cluster.hosts[name].groups))]
    stages = [Stage(step=Step.STATE, hosts=tuple(state))]
    stages += [Stage(step=Step.SERVER, hosts=(name,)) for name in _servers(cluster)]
    # Only now is the database migrated that they ask for its schema; hosts of masters move in this for the second time.
    stages += [Stage(step=Step.AUTOSCALER, hosts=(name,)) for name in cluster.groups.get("autoscaler", ())]
    stages += _of_slaves(cluster, Step.SLAVE, batch)
    stages.append(Stage(step=Step.BACKUP, hosts=cluster.groups.get("backup", ())))
    return [stage for stage in stages if stage.hosts]


def ways_back(cluster: Cluster, moved: Sequence[str], batch: str) -> list[Stage]:
    """The stages that bring those hosts back: slaves in batches, servers one by one, then the others."""
    servers = _servers(cluster)
    slaves = cluster.groups.get("slaves", ())
    others = tuple(name for name in cluster.hosts if name not in {*servers, *slaves})
    stages = _of_slaves(cluster, Step.BACK, batch)
    stages += [Stage(step=Step.BACK, hosts=(name,)) for name in servers if name not in slaves]
    stages.append(Stage(step=Step.BACK, hosts=others))
    narrowed = (tuple(name for name in stage.hosts if name in moved) for stage in stages)
    return [Stage(step=Step.BACK, hosts=hosts) for hosts in narrowed if hosts]


def _moves_first(groups: set[str]) -> bool:
    return bool(groups & _STATE) or not groups & (_SERVERS | {"autoscaler", "slaves"})


def _servers(cluster: Cluster) -> list[str]:
    return [name for name, host in cluster.hosts.items() if _SERVERS & set(host.groups)]


def _of_slaves(cluster: Cluster, step: Step, batch: str) -> list[Stage]:
    slaves = cluster.groups.get("slaves", ())
    size = batch_size(batch, len(slaves))
    return [Stage(step=step, hosts=slaves[start : start + size]) for start in range(0, len(slaves), size)]


class Upgrade:
    """Goes through the stages with `run`, which says whether a stage succeeded on all its hosts."""

    def __init__(self, cluster: Cluster, *, batch: str, run: Callable[[Stage], bool], say: Callable[[str], None]):
        self._cluster = cluster
        self._batch = batch
        self._run = run
        self._say = say

    def upgrade(self) -> bool:
        """Move all hosts, or none; say what came of it."""
        everywhere = tuple(self._cluster.hosts)
        if not self._run(Stage(step=Step.PREPARE, hosts=everywhere)):
            self._say("The release could not be installed everywhere; nothing else was changed.")
            return False
        succeeded = self._move()
        if succeeded:
            self._run(Stage(step=Step.FORGET, hosts=everywhere))
        self._run(Stage(step=Step.ACCOUNT, hosts=everywhere))
        return succeeded

    def _move(self) -> bool:
        moved: list[str] = []
        for stage in moves(self._cluster, self._batch):
            moved += stage.hosts
            if not self._run(stage):
                self._say(f"The step `{stage.step}` failed on {', '.join(stage.hosts)}, see above. Hosts go back.")
                self._go_back(moved)
                return False
        return True

    def _go_back(self, moved: Sequence[str]) -> None:
        # A host that does not go back is no reason to leave the others where they are.
        stuck = [stage for stage in ways_back(self._cluster, moved, self._batch) if not self._run(stage)]
        for stage in stuck:
            self._say(f"{', '.join(stage.hosts)}: DID NOT GO BACK, see above.")
        self._say("The schema of the database stays as it is: it serves both releases.")


def _batch(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*%?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of slaves; give one such as 3, or a part such as 25%")
    return text


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m inventories.upgrade", description="Move a cluster to a release.")
    parser.add_argument("--batch", type=_batch, default=BATCH, help="slaves that move at a time (default: 25%%)")
    parser.add_argument("name", help="which one of inventories/")
    arguments = parser.parse_args()
    directory = ROOT / "inventories" / arguments.name
    os.environ.update(environment_of(directory))
    try:
        cluster = loader.load(directory)
        release = release_of(cluster)
    except InventoryError as exc:
        sys.stderr.write(f"inventories: {exc}\n")
        return FAILED

    def run(stage: Stage) -> bool:
        _say(f"=== {stage.step}: {', '.join(stage.hosts)}")
        data = ["--data", f"upgrade_step={stage.step}", "--data", f"upgrade_release={release}"]
        words = ["-y", *data, *limit_words(cluster, stage.hosts)]
        return run_pyinfra(words, directory, _PLAYBOOK).returncode == 0

    return 0 if Upgrade(cluster, batch=arguments.batch, run=run, say=_say).upgrade() else FAILED


if __name__ == "__main__":
    sys.exit(main())
