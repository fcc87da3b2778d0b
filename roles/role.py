"""What a role's deploy.py works with: its variables and texts for one host."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.context import host as current_host

from inventories import loader
from inventories.cluster import ROOT


@dataclass(frozen=True, kw_only=True)
class Role:
    """`vars` has every variable of defaults/main.yml as it is on the host; `templates` the finished texts."""

    name: str
    vars: Mapping[str, Any]
    templates: Mapping[str, str]

    @classmethod
    def of(cls, host: Host, name: str) -> "Role":
        resolved = loader.resolved(host.name).roles[name]
        return cls(name=name, vars=resolved.vars, templates=resolved.templates)

    def template(self, name: str) -> io.StringIO:
        """The text that Ansible's template module would write, as a source for files.put."""
        return io.StringIO(self.templates[name])

    def file(self, name: str) -> str:
        """Path on this computer of a file in files/."""
        return str(ROOT / "roles" / self.name / "files" / name)


def roles_of(host: Host) -> frozenset[str]:
    """Names of the roles that playbooks/site.yml gives to the host."""
    return frozenset(loader.resolved(host.name).roles)


def apply(name: str) -> None:
    """Run the role's deploy.py if this host has the role.

    Call it once a line: pyinfra takes the line numbers that lead to an operation for its name.
    """
    if name in roles_of(current_host):
        role = Role.of(current_host, name)
        _refuse_data(role)
        import_module(f"roles.{name}.deploy").deploy(role)


def _refuse_data(role: Role) -> None:
    """pyinfra's --data comes too late for templates: half of the role would follow it."""
    given = [name for name in role.vars if current_host.data.get(name) is not None]
    if given:
        raise PyinfraError(f"--data {given[0]}=... does not reach roles; set it in group_vars/ of the inventory")
