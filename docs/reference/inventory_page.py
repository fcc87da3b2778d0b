"""The reference of inventories: groups, and every variable of the roles. It is read from the roles themselves."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WIRING = ROOT / "playbooks" / "group_vars" / "all.yml"
INTRODUCTION = """\
# Inventory

An inventory is a directory `inventories/NAME`: `hosts.yml` says which hosts there are and what each of them does,
`group_vars/` and `host_vars/` set variables. [Write an inventory](../how-to/write-an-inventory.md) tells how. pyinfra
and Ansible read the same files, and `make check-inventory INVENTORY=NAME` says what is wrong with them.

A value for one host wins over one for a group of it, and that over one for `cluster`, of which all hosts are. What
nobody sets is *wired*, which means made from other variables in `playbooks/group_vars/all.yml`, or the default."""
GROUPS_INTRODUCTION = """\
## Groups

A group gives its hosts a role. They are set up in this order."""
WIRED_INTRODUCTION = """\
## The cluster as a whole

These belong to no role. They are set for `cluster`, unless something else is said, and the roles' variables are made
from them."""


def inventory_parts() -> Iterator[str]:
    """The parts of the page."""
    plays = [play for play in _read(ROOT / "playbooks" / "site.yml") if "roles" in play]
    roles = {role: _Role(ROOT / "roles" / role) for play in plays for role in play["roles"]}
    wiring = _read(WIRING)
    known = {name for role in roles.values() for name in role.options}
    yield INTRODUCTION
    yield GROUPS_INTRODUCTION
    rows = [(f"`{play['hosts']}`", f"[{role}](#{role})", roles[role].about) for play in plays for role in play["roles"]]
    yield _table(("group", "role", "what its hosts get"), rows)
    yield WIRED_INTRODUCTION
    names = [name for name in wiring if not name.startswith("_") and name not in known]
    comments = _comments(WIRING.read_text(encoding="utf-8"))
    yield _table(
        ("variable", "default", "meaning"), [(f"`{name}`", _wired(wiring[name]), comments[name]) for name in names]
    )
    for name, role in roles.items():
        yield f"## {name}"
        yield f"{role.about}."
        yield _table(("variable", "value", "default", "meaning"), role.rows(wiring))


class _Role:
    """What a role says of itself."""

    def __init__(self, path: Path) -> None:
        spec = _read(path / "meta" / "argument_specs.yml")["argument_specs"]["main"]
        self.about = str(spec["short_description"]).rstrip(".")
        self.options: Mapping[str, Any] = spec["options"]
        self.defaults: Mapping[str, Any] = _read(path / "defaults" / "main.yml")

    def rows(self, wiring: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
        for name, option in self.options.items():
            default = _wired(wiring[name]) if name in wiring else _shown(self.defaults[name])
            yield f"`{name}`", _kind(option), default, _sentences(option["description"])


def _kind(option: Mapping[str, Any]) -> str:
    if "choices" in option:
        return ", ".join(_shown(choice) for choice in option["choices"])
    kind = {"bool": "true or false", "dict": "mapping", "int": "number", "float": "number", "str": "text"}
    of = f" of {kind.get(option['elements'], option['elements'])}s" if option.get("elements") else ""
    return str(kind.get(option.get("type", "str"), option.get("type"))) + of


def _wired(value: Any) -> str:
    return "wired" if "{{" in str(value) else _shown(value)


def _comments(text: str) -> Mapping[str, str]:
    """By variable: the comment above it, which goes on until the next empty line or comment."""
    found: dict[str, str] = {}
    comment: list[str] = []
    was_comment = False
    for line in text.splitlines():
        if line.startswith("# "):
            comment = [*comment, line[2:]] if was_comment else [line[2:]]
        elif not line:
            comment = []
        elif match := re.match(r"(\w+):", line):
            found[match.group(1)] = " ".join(comment)
        was_comment = line.startswith("# ")
    return found


def _sentences(description: Any) -> str:
    return " ".join(description) if isinstance(description, list) else " ".join(str(description).split())


def _shown(value: Any) -> str:
    if value in ("", None):
        return "empty"
    text = value if isinstance(value, str) else json.dumps(value)
    return f"`{' '.join(text.split())}`"


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)
