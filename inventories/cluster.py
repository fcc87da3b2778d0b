"""A cluster as the resolver hands it over: its hosts, how to reach them, and what each role needs there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class InventoryError(Exception):
    """An inventory cannot be used; the message is one line that names the host, the variable and the file."""


@dataclass(frozen=True, kw_only=True)
class ResolvedRole:
    """`vars` as tasks of the role see them; `templates` maps a name below templates/ to its text for this host."""

    vars: Mapping[str, Any]
    templates: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ResolvedHost:
    """`connection` has pyinfra's names (ssh_hostname, _sudo, …), or is {"local": True} for this computer."""

    groups: tuple[str, ...]
    connection: Mapping[str, Any]
    roles: Mapping[str, ResolvedRole]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """`hosts` and `groups` (host names by group) in the order of the inventory."""

    hosts: Mapping[str, ResolvedHost]
    groups: Mapping[str, tuple[str, ...]]

    def to_json(self) -> str:
        """Text with the secrets of the cluster in it: for a pipe, not for a file or a terminal."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Cluster":
        raw = json.loads(text)
        return cls(
            hosts={name: _host(host) for name, host in raw["hosts"].items()},
            groups={name: tuple(members) for name, members in raw["groups"].items()},
        )


def _host(raw: Mapping[str, Any]) -> ResolvedHost:
    roles = {name: ResolvedRole(**role) for name, role in raw["roles"].items()}
    return ResolvedHost(groups=tuple(raw["groups"]), connection=raw["connection"], roles=roles)
