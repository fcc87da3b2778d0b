"""What may be set in an inventory: the variables of the roles, and the names of the wiring."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from inventories.cluster import ROOT
from inventories.model import Catalog, Option


def read_catalog(root: Path = ROOT) -> Catalog:
    """The catalog of a checkout: `roles/*/meta/argument_specs.yml`, and all of `playbooks/group_vars/`."""
    options = {option.name: option for role in sorted((root / "roles").glob("*")) for option in _options_of(role)}
    wiring = sorted((root / "playbooks" / "group_vars").rglob("*.yml"))
    # What begins with _ is the wiring's own shorthand.
    names = frozenset(name for path in wiring for name in read_mapping(path) if not name.startswith("_"))
    return Catalog(options=options, wired=names)


def read_mapping(path: Path) -> Mapping[str, Any]:
    """A YAML file of ours that holds a mapping; a missing or empty one holds none."""
    if not path.is_file():
        return {}
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) or {}


def _options_of(role: Path) -> Iterator[Option]:
    specs = read_mapping(role / "meta" / "argument_specs.yml").get("argument_specs", {})
    options = specs.get("main", {}).get("options", {})
    for name, spec in options.items():
        yield Option(
            role=role.name,
            name=name,
            type=spec.get("type", "str"),
            elements=spec.get("elements"),
            choices=tuple(spec.get("choices", ())),
        )
    # A role in the making may have defaults before its specs; its variables are known all the same.
    for name in read_mapping(role / "defaults" / "main.yml").keys() - options.keys():
        yield Option(role=role.name, name=name, type="raw")
