"""What the check of an inventory speaks of: hosts, groups, and the values that an operator wrote."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

# Groups that give their hosts a role, and which; "cluster" holds all hosts and gives the role base.
ROLE_OF_GROUP: Mapping[str, str] = {
    "cluster": "base",
    "database": "mysql",
    "queue": "beanstalkd",
    "object_store": "object_store",
    "isolate_servers": "isolate",
    "masters": "master",
    "autoscaler": "autoscaler",
    "slaves": "slave",
    "backup": "backup",
}
GROUPS_OF_ANSIBLE = frozenset(("all", "ungrouped"))
# The scope of what hosts.yml says to an inventory plugin: of no group, no host.
OPTIONS_OF_PLUGIN = "<plugin>"


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A line of a file, counted from 1."""

    path: Path
    line: int = 1


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One thing to mend. A warning does not stop a deployment."""

    place: Place
    key: str
    wrong: str
    instead: str
    is_warning: bool = False

    def __str__(self) -> str:
        warning = "warning: " if self.is_warning else ""
        return f"{self.place.path}:{self.place.line}: {warning}{self.key}: {self.wrong}; {self.instead}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A value as it stands in the inventory, Jinja and all.

    `scope` is the group or host that it is for. `is_inline`: it stands in hosts.yml, not in group_vars or host_vars.
    """

    name: str
    value: Any
    place: Place
    scope: str
    is_host: bool = False
    is_inline: bool = False


@dataclass(frozen=True, kw_only=True)
class GroupUse:
    """A place that speaks of a group: as a key of hosts.yml, or by a name in group_vars."""

    name: str
    place: Place
    parent: str | None = None
    is_file: bool = False


@dataclass(frozen=True, kw_only=True)
class Option:
    """A variable of a role, as its argument_specs.yml has it."""

    role: str
    name: str
    type: str = "str"
    elements: str | None = None
    choices: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Everything that may be set: the roles' variables, and the names that the wiring in playbooks/ adds.

    `wired` are the names to which the wiring gives a value.
    """

    options: Mapping[str, Option]
    wired: frozenset[str] = frozenset()

    def names(self) -> frozenset[str]:
        return self.wired.union(self.options)


@dataclass(frozen=True, kw_only=True)
class Unresolved:
    """Stands for a value whose expression Ansible could not compute, with the reason."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host with all its groups, and its variables as its roles will see them."""

    name: str
    place: Place
    groups: frozenset[str]
    values: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """The value, or None where it is unset or cannot be computed."""
        value = self.values.get(name)
        return None if isinstance(value, Unresolved) else value

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(role for group, role in ROLE_OF_GROUP.items() if group in self.groups)


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """An inventory directory, read. `order` lists its groups from weakest to strongest, as Ansible merges them."""

    directory: Path
    hosts: tuple[Host, ...] = ()
    uses: tuple[GroupUse, ...] = ()
    entries: tuple[Entry, ...] = ()
    order: tuple[str, ...] = ()
    catalog: Catalog = Catalog(options={})
    discovers_slaves: bool = False

    def hosts_of(self, group: str) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if group in host.groups)

    def place_of_group(self, group: str) -> Place:
        """Where hosts.yml names the group, else the top of hosts.yml."""
        found = (use.place for use in self.uses if use.name == group and not use.is_file)
        return next(found, Place(path=self.directory / "hosts.yml"))

    def entry_for(self, host: Host, name: str) -> Entry | None:
        """What the operator wrote and the host goes by; None: a default or the wiring speaks."""
        applying = (entry for entry in self.entries if entry.name == name and self._applies(entry, host))
        return max(applying, key=self._strength, default=None)

    def place_for(self, host: Host, name: str) -> Place:
        entry = self.entry_for(host, name)
        return entry.place if entry else host.place

    def file(self, path: str) -> Path:
        """A file on this machine; what is relative counts from the checkout, where both tools are started."""
        return self.directory.parents[1] / path

    def _applies(self, entry: Entry, host: Host) -> bool:
        return entry.scope == host.name if entry.is_host else entry.scope in host.groups

    def _strength(self, entry: Entry) -> tuple[bool, bool, int]:
        rank = self.order.index(entry.scope) if entry.scope in self.order else -1
        return (entry.is_host, not entry.is_inline, rank)


Rule = Callable[[Inventory], Iterable[Mistake]]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.75)), None)


def scalars(value: Any) -> Iterator[Any]:
    """Every single value inside of a variable, the keys of mappings left out."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from scalars(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from scalars(inner)
    else:
        yield value
