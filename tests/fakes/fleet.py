"""Instance groups without HTTP, for tests of the service alone: a Fleet straight on the fake's groups.

tests/services/autoscale/test_fleet_contract.py holds it to what the real client does.
"""

import random
from collections.abc import Callable, Collection

from dist_test.errors import CloudUnavailable, GroupAutoscaled, GroupNotFound
from dist_test_autoscale.groups import GroupReading, ListedInstance
from dist_test_autoscale.settings import GroupSettings

from .instance_groups import Group, Machine, World


class WorldFleet:
    """The groups of a world. error_rate: part of all calls that fail by `dice`, half of them after they did it."""

    def __init__(self, world: World, clock: Callable[[], float]) -> None:
        self.world = world
        self.error_rate = 0.0
        self.dice = random.Random(1)
        self.deletes: list[tuple[str, str]] = []
        self._clock = clock
        self._requests: dict[str, int] = {}

    def read(self, group: GroupSettings, deadline: float) -> GroupReading:
        found = self._begin(group, deadline)
        self._perhaps_fail()
        return GroupReading(
            name=found.name,
            target=found.target,
            autoscaler=found.autoscaler,
            instances=tuple(_listed(machine, found) for machine in found.machines),
        )

    def grow(self, group: GroupSettings, count: int, request_id: str, deadline: float) -> int:
        found = self._begin(group, deadline)
        fails_late = self._perhaps_fail()
        if found.autoscaler:
            raise GroupAutoscaled(f"group {group.name} has an autoscaler of Google's")
        size = min(found.target + count, group.max)
        if request_id not in self._requests:
            self._requests[request_id] = max(0, size - found.target)
            self.world.resize(found, max(size, found.target))
        self._fail(fails_late)
        return self._requests[request_id]

    def delete(
        self, group: GroupSettings, instances: Collection[tuple[str, str]], request_id: str, deadline: float
    ) -> tuple[tuple[str, str], ...]:
        found = self._begin(group, deadline)
        fails_late = self._perhaps_fail()
        machines = [machine for machine in found.machines if (machine.name, machine.id) in set(instances)]
        self.deletes += [(machine.name, machine.id) for machine in machines]
        self.world.delete(found, machines)
        self._fail(fails_late)
        return tuple((machine.name, machine.id) for machine in machines)

    def close(self) -> None:
        """Nothing is open."""

    def _begin(self, group: GroupSettings, deadline: float) -> Group:
        if self._clock() >= deadline:
            raise CloudUnavailable(f"no time is left for group {group.name}")
        self.world.advance()
        found = self.world.groups.get(group.name)
        if found is None:
            raise GroupNotFound(f"there is no group {group.name}")
        return found

    def _perhaps_fail(self) -> bool:
        """Fail, or say whether to fail once it is done."""
        if self.dice.random() >= self.error_rate:
            return False
        fails_late = self.dice.random() < 0.5
        self._fail(not fails_late)
        return fails_late

    def _fail(self, fails: bool) -> None:
        if fails:
            raise CloudUnavailable("the fake was told to fail")


def _listed(machine: Machine, group: Group) -> ListedInstance:
    return ListedInstance(
        name=machine.name,
        id=machine.id,
        url="" if machine.is_queued else machine.partial_url(),
        action=machine.action,
        status=machine.status,
        errors=(machine.error.removesuffix("_WITH_DETAILS"),) if machine.error else (),
        old_template=machine.template != group.template,
    )
