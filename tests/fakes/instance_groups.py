"""Managed instance groups as Compute Engine keeps them: machines that boot, fail to, are preempted and come back.

Nothing happens by itself: advance() does what was due by then.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from .discovery import Document, NotAllowed

STOCK_OUT = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
QUOTA = "QUOTA_EXCEEDED"
ROOT = "https://www.googleapis.com/compute/v1"


@dataclass(kw_only=True, eq=False)
class Machine:
    """A group's member. `id` is empty and `status` is "" while there is no machine, before and between its lives."""

    name: str
    group: str
    zone: str
    template: str
    id: str = ""
    status: str = ""
    action: str = "CREATING"
    error: str = ""
    is_queued: bool = False
    due: float = 0.0
    next_step: Callable[["Machine"], None] | None = None

    def partial_url(self) -> str:
        return f"zones/{self.zone}/instances/{self.name}"

    def to_document(self, project: str) -> Document:
        """The machine as listManagedInstances has it."""
        document: Document = {
            "name": self.name,
            "currentAction": self.action,
            "version": {"instanceTemplate": _template_url(project, self.template)},
        }
        if not self.is_queued:
            document["instance"] = f"{ROOT}/projects/{project}/{self.partial_url()}"
        if self.id:
            document |= {"id": self.id, "instanceStatus": self.status}
        if self.error:
            told = {"code": self.error, "message": f"the fake has no room in {self.zone}"}
            document["lastAttempt"] = {"errors": {"errors": [told]}}
        return document


class Driver(Protocol):
    """What a machine is, beyond its entry: a process, say. Called while the fake is locked: be quick, do not ask it."""

    def start(self, machine: Machine) -> None:
        """It has booted."""

    def preempt(self, machine: Machine) -> None:
        """Its metadata say from now on that it will go; shut_down follows after the notice."""

    def shut_down(self, machine: Machine) -> None:
        """Its power button was pressed: it is deleted, or preempted."""

    def power_off(self, machine: Machine) -> None:
        """It is gone."""


class NoDriver:
    """Machines that do nothing."""

    def start(self, machine: Machine) -> None:
        """Nothing."""

    def preempt(self, machine: Machine) -> None:
        """Nothing."""

    def shut_down(self, machine: Machine) -> None:
        """Nothing."""

    def power_off(self, machine: Machine) -> None:
        """Nothing."""


@dataclass(kw_only=True)
class Times:
    """Seconds that things take."""

    schedule: float = 0.0  # from the request to a machine, or to the first failure
    boot: float = 60.0
    retry: float = 30.0  # between two tries to make a machine
    notice: float = 30.0  # from the news of a preemption to its power button
    shutdown: float = 0.0  # from the power button to the end


@dataclass(kw_only=True, eq=False)
class Group:
    """A group in `zones`, one of which makes it zonal; more need a `region`. `stock`: machines a zone has room for.

    pages: whether its listing honours pageToken (PAGINATED). repeats_token: it hands one out on every page, for ever.
    """

    name: str
    zones: tuple[str, ...]
    region: str = ""
    template: str = "slave-v1"
    autoscaler: bool = False
    pages: bool = True
    repeats_token: bool = False
    queues: bool = False
    stock: dict[str, int] = field(default_factory=dict)
    target: int = 0
    machines: list[Machine] = field(default_factory=list)
    shrinks: list[str] = field(default_factory=list)

    def to_document(self, project: str) -> Document:
        """The group as `get` has it."""
        place = {"region": f"{ROOT}/projects/{project}/regions/{self.region}"} if self.region else {}
        zone = {} if self.region else {"zone": f"{ROOT}/projects/{project}/zones/{self.zones[0]}"}
        actions = [machine.action for machine in self.machines]
        status: Document = {"isStable": all(action == "NONE" for action in actions)}
        if self.autoscaler:
            status["autoscaler"] = f"{ROOT}/projects/{project}/zones/{self.zones[0]}/autoscalers/{self.name}"
        return {
            "kind": "compute#instanceGroupManager",
            "name": self.name,
            "targetSize": self.target,
            "instanceTemplate": _template_url(project, self.template),
            "versions": [{"instanceTemplate": _template_url(project, self.template)}],
            "listManagedInstancesResults": "PAGINATED" if self.pages else "PAGELESS",
            "currentActions": {
                name: actions.count(name.upper()) for name in ("none", "creating", "recreating", "deleting")
            },
            "status": status,
            **place,
            **zone,
        }


class World:
    """All groups of a project. `quota`: machines that the project may have."""

    def __init__(self, clock: Callable[[], float], driver: Driver, times: Times) -> None:
        self.groups: dict[str, Group] = {}
        self.quota = 1_000_000
        self.times = times
        self._clock = clock
        self._driver = driver
        self._ids = itertools.count(7_000_000_000_000_000_001)
        self._names = itertools.count(1)

    def advance(self) -> None:
        """Do what is due."""
        while due := [machine for machine in self._machines() if self._is_due(machine)]:
            for machine in sorted(due, key=lambda machine: machine.due):
                step, machine.next_step = machine.next_step, None
                if step is not None:
                    step(machine)

    def resize(self, group: Group, size: int) -> None:
        """Raise or lower the target. Lowering it takes machines that nobody chose, as Compute Engine does."""
        if size < group.target:
            group.shrinks.append(f"{group.name} from {group.target} to {size}")
            staying = [machine for machine in group.machines if machine.action != "DELETING"]
            self.delete(group, staying[: group.target - size])
            return
        for _ in range(size - group.target):
            name = f"{group.name}-{next(self._names):04d}"
            machine = Machine(name=name, group=group.name, zone=self._zone(group), template=group.template)
            machine.is_queued = group.queues
            group.machines.append(machine)
            self._later(machine, self.times.schedule, self._make)
        group.target = size

    def delete(self, group: Group, machines: Iterable[Machine]) -> None:
        """Delete machines and lower the target by as many."""
        for machine in machines:
            if machine.action == "DELETING":
                continue
            group.target -= 1
            machine.action = "DELETING"
            if machine.id:
                machine.status = "STOPPING"
                self._driver.shut_down(machine)
            self._later(machine, self.times.shutdown, self._remove)

    def preempt(self, name: str) -> None:
        """Tell a machine that it will be taken. Raises NotAllowed for one that does not run."""
        machine = self._running(name)
        self._driver.preempt(machine)
        self._later(machine, self.times.notice, self._press)

    def replace(self, name: str) -> None:
        """Preempt a machine without notice and have its successor at once: same name, new id."""
        self._lose(self._running(name))
        self.advance()

    def close(self) -> None:
        """Power everything off."""
        for machine in self._machines():
            if machine.id:
                self._driver.power_off(machine)
        for group in self.groups.values():
            group.machines.clear()

    def _machines(self) -> list[Machine]:
        return [machine for group in self.groups.values() for machine in group.machines]

    def _running(self, name: str) -> Machine:
        for machine in self._machines():
            if machine.name == name and machine.status == "RUNNING":
                return machine
        raise NotAllowed(f"no machine {name} runs")

    def _is_due(self, machine: Machine) -> bool:
        return machine.next_step is not None and machine.due <= self._clock()

    def _later(self, machine: Machine, seconds: float, step: Callable[[Machine], None]) -> None:
        machine.due = self._clock() + seconds
        machine.next_step = step

    def _zone(self, group: Group) -> str:
        """The zone with the fewest of the group's machines."""
        zones = [machine.zone for machine in group.machines]
        return min(group.zones, key=zones.count)

    def _make(self, machine: Machine) -> None:
        """Try to make it, again and again: Compute Engine does not give up by itself."""
        machine.is_queued = False
        machine.error = self._lack(machine)
        if machine.error:
            self._later(machine, self.times.retry, self._make)
            return
        machine.id, machine.status = str(next(self._ids)), "STAGING"
        self._later(machine, self.times.boot, self._run)

    def _lack(self, machine: Machine) -> str:
        there = [other for other in self._machines() if other.id]
        if len(there) >= self.quota:
            return QUOTA
        in_zone = [other for other in there if other.zone == machine.zone and other.group == machine.group]
        room = self.groups[machine.group].stock.get(machine.zone)
        return STOCK_OUT if room is not None and len(in_zone) >= room else ""

    def _run(self, machine: Machine) -> None:
        machine.action, machine.status = "NONE", "RUNNING"
        self._driver.start(machine)

    def _press(self, machine: Machine) -> None:
        machine.status = "STOPPING"
        self._driver.shut_down(machine)
        self._later(machine, self.times.shutdown, self._lose)

    def _lose(self, machine: Machine) -> None:
        self._driver.power_off(machine)
        machine.id, machine.status, machine.action = "", "", "RECREATING"
        self._later(machine, self.times.schedule, self._make)

    def _remove(self, machine: Machine) -> None:
        if machine.id:
            self._driver.power_off(machine)
        self.groups[machine.group].machines.remove(machine)


def page(group: Group, *, size: int, token: str) -> tuple[list[Machine], str]:
    """One page of the group's machines, and the token of the next one; "" after the last."""
    if not group.pages:
        return list(group.machines), "again" if group.repeats_token else ""
    start = int(token or "0")
    end = start + size
    return group.machines[start:end], str(end) if end < len(group.machines) else ""


def documents(machines: Iterable[Machine], project: str) -> Iterator[Document]:
    """The machines as a listing has them."""
    return (machine.to_document(project) for machine in machines)


def _template_url(project: str, template: str) -> str:
    return f"{ROOT}/projects/{project}/global/instanceTemplates/{template}"
