"""Ansible's own engine, set up for one inventory.

Its classes are no public API: ansible-core is pinned, and tests/roles and tests/inventories run this on real
directories. Works once in a process: Ansible keeps its plugins and the passwords of vaults in globals.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.inventory.host import Host
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.utils.vars import combine_vars
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Reads hosts, groups and variables as a playbook of the checkout would see them."""

    loader: DataLoader
    inventory: InventoryManager
    variables: VariableManager

    @classmethod
    def of(cls, hosts_file: Path, loader: DataLoader, *, root: Path) -> "Engine":
        """For the playbooks of the checkout at `root`; `loader` knows the passwords of vaults. Raises AnsibleError."""
        init_plugin_loader()
        loader.set_basedir(str(root / "playbooks"))
        inventory = InventoryManager(loader=loader, sources=[str(hosts_file)])
        variables = VariableManager(loader=loader, inventory=inventory)
        hostvars = HostVars(inventory, variables, loader)  # registers itself with the variable manager
        # Ansible puts them together anew for each access, as tasks may change them. Here nothing does.
        hostvars.raw_get = functools.cache(hostvars.raw_get)
        return cls(loader=loader, inventory=inventory, variables=variables)

    def variables_of(self, host: Host, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Unresolved: the host's, over the defaults of roles."""
        merged: dict[str, Any] = combine_vars(dict(defaults or {}), self.variables.get_vars(host=host))
        return merged

    def templar(self, variables: Mapping[str, Any]) -> Templar:
        """What resolves values that refer to these variables."""
        return Templar(loader=self.loader, variables=variables)


def read_mapping(loader: DataLoader, path: Path) -> Mapping[str, Any]:
    """A YAML file of ours whose texts may be templates; a missing or empty one holds nothing."""
    if not path.is_file():
        return {}
    read: Mapping[str, Any] = loader.load_from_file(str(path), trusted_as_template=True) or {}
    return read
