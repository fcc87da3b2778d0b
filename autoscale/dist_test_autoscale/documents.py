"""Read JSON strictly: each value knows its path, so that a complaint can name it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dist_test.errors import InvalidSnapshot, shortened, shown

MAX_NUMBER = 1e15  # seconds of 30 million years: what is larger is a mistake, and breaks sums


@dataclass(frozen=True, kw_only=True)
class Node:
    """A value of a JSON document and where it stands, such as slaves[3].busy. All methods raise InvalidSnapshot."""

    value: Any
    path: str

    def refuse(self, advice: str) -> InvalidSnapshot:
        """The error to raise about this value."""
        return InvalidSnapshot(f"{self.path} is {shown(self.value)}: {advice}")

    def table(self, *, needed: Iterable[str], optional: Iterable[str] = ()) -> "Table":
        """The value as an object that has all `needed` keys and none but these and the `optional` ones."""
        if not isinstance(self.value, dict):
            raise self.refuse("give an object")
        needed, known = list(needed), {*needed, *optional}
        for name in needed:
            if name not in self.value:
                raise InvalidSnapshot(f"{self._child(name)} is missing")
        for name in self.value:
            if name not in known:
                raise InvalidSnapshot(f"{self._child(name)} is not known; known are {', '.join(sorted(known))}")
        return Table(nodes={name: Node(value=value, path=self._child(name)) for name, value in self.value.items()})

    def items(self) -> list["Node"]:
        """The entries of a list."""
        if not isinstance(self.value, list):
            raise self.refuse("give a list")
        return [Node(value=value, path=f"{self.path}[{place}]") for place, value in enumerate(self.value)]

    def mapping(self) -> dict[str, "Node"]:
        """The entries of an object whose keys are names."""
        if not isinstance(self.value, dict):
            raise self.refuse("give an object")
        return {name: Node(value=value, path=self._child(name)) for name, value in self.value.items()}

    def number(self) -> float:
        """A finite number, of any sign."""
        if type(self.value) not in (int, float) or not -MAX_NUMBER <= self.value <= MAX_NUMBER:
            raise self.refuse("give a number")
        return float(self.value)

    def seconds(self) -> float:
        """A duration."""
        if self.number() < 0:
            raise self.refuse("give a number of seconds, 0 or more")
        return float(self.value)

    def count(self, least: int = 0) -> int:
        """A whole number of things."""
        if type(self.value) is not int or self.value < least:
            raise self.refuse(f"give a whole number, {least} or more")
        return self.value

    def text(self) -> str:
        """Any text."""
        if not isinstance(self.value, str):
            raise self.refuse("give a text")
        return self.value

    def boolean(self) -> bool:
        """True or false."""
        if type(self.value) is not bool:
            raise self.refuse("give true or false")
        return self.value

    def one_of(self, known: Collection[str]) -> str:
        """One of a few words."""
        if self.value not in known:
            raise self.refuse(f"give one of {', '.join(known)}")
        return str(self.value)

    def _child(self, name: str) -> str:
        return f"{self.path}.{shortened(name)}" if self.path else shortened(name)


@dataclass(frozen=True, kw_only=True)
class Table:
    """An object whose keys were looked at."""

    nodes: Mapping[str, Node]

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def find(self, name: str) -> Node | None:
        """The value; None where it is missing or null."""
        node = self.nodes.get(name)
        return None if node is None or node.value is None else node
