"""The inventory as Ansible sees it: the groups of each host, and variables with everything computed.

The one module of the check that touches Ansible's own classes.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.inventory.host import Host as AnsibleHost
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, get_file_vault_secret
from ansible.template import Templar

from inventories.engine import Engine, read_mapping
from inventories.model import ROLE_OF_GROUP, Host, Place, Unresolved
from inventories.source import Source, VaultLocked

# A program that such a value runs may need what is not there yet, the wheel for one.
RUNS_A_PROGRAM = re.compile(r"lookup\(\s*['\"](ansible\.builtin\.)?pipe['\"]")


class Vault:
    """The passwords that Ansible is configured with, to open encrypted files."""

    def __init__(self, loader: DataLoader) -> None:
        self.secrets: list[tuple[str, VaultSecret]] = []
        self.problem = "no password is given"
        for vault_id, path in _password_files():
            self._load(loader, vault_id, path)
        loader.set_vault_secrets(self.secrets)

    def _load(self, loader: DataLoader, vault_id: str, path: str) -> None:
        try:
            secret = get_file_vault_secret(filename=path, vault_id=vault_id, loader=loader)
            secret.load()
        except AnsibleError as exc:
            self.problem = str(exc).splitlines()[0]
        else:
            self.problem = "the password is not the one it was encrypted with"
            self.secrets.append((vault_id, secret))

    def decrypt(self, text: str, _path: Path) -> str:
        """The YAML that was encrypted. Raises VaultLocked."""
        try:
            return bytes(VaultLib(self.secrets).decrypt(text.encode())).decode()
        except AnsibleError as exc:
            raise VaultLocked(self.problem) from exc


def _password_files() -> Iterator[tuple[str, str]]:
    for identity in constants.DEFAULT_VAULT_IDENTITY_LIST or ():
        vault_id, _, path = identity.rpartition("@")
        if path and not path.startswith("prompt"):
            yield vault_id or "default", path
    if constants.DEFAULT_VAULT_PASSWORD_FILE:
        yield "default", constants.DEFAULT_VAULT_PASSWORD_FILE


@dataclass(frozen=True, kw_only=True)
class View:
    """What Ansible makes of a directory. `order`: its groups from weakest to strongest."""

    hosts: tuple[Host, ...]
    order: tuple[str, ...]


def read_view(directory: Path, source: Source, names: Iterable[str], *, root: Path, loader: DataLoader) -> View:
    """Compute these variables, and all of each host's roles, for every host.

    Raises AnsibleError when Ansible cannot make sense of hosts.yml. Nothing outside of this machine is asked:
    discovery of slaves stays switched off.
    """
    os.environ["INVENTORY_DISCOVERY"] = "off"
    engine = Engine.of(directory / "hosts.yml", loader, root=root)
    hosts = sorted(engine.inventory.get_hosts(), key=lambda host: _place_of(host, source, directory))
    groups = sorted(engine.inventory.groups.values(), key=lambda group: (group.depth, group.priority, group.name))
    wanted = frozenset(names)
    return View(
        hosts=tuple(_read_host(host, _place_of(host, source, directory), wanted, engine, root) for host in hosts),
        order=tuple(group.name for group in groups),
    )


def _read_host(host: AnsibleHost, place: Place, names: frozenset[str], engine: Engine, root: Path) -> Host:
    groups = frozenset(group.name for group in host.get_groups()) | {"all"}
    roles = [role for group, role in ROLE_OF_GROUP.items() if group in groups]
    read = (read_mapping(engine.loader, root / "roles" / role / "defaults/main.yml") for role in roles)
    defaults = {name: value for mapping in read for name, value in mapping.items()}
    values = engine.variables_of(host, defaults)
    written = {name: values[name] for name in (names & values.keys()) | defaults.keys()}
    return Host(name=host.name, place=place, groups=groups, values=_Values(engine.templar(values), written))


class _Values(Mapping[str, Any]):
    """Variables that are computed when they are asked for: of 200 slaves, most never are."""

    def __init__(self, templar: Templar, written: Mapping[str, Any]) -> None:
        self._templar = templar
        self._written = written
        self._computed: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._computed:
            self._computed[name] = _compute(self._templar, self._written[name])
        return self._computed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._written))

    def __len__(self) -> int:
        return len(self._written)


def _compute(templar: Templar, value: Any) -> Any:
    if RUNS_A_PROGRAM.search(str(value)):
        return Unresolved(reason="it runs a program")
    try:
        return _plain(templar.template(value))
    except AnsibleError as exc:
        return Unresolved(reason=str(exc).splitlines()[0].rstrip("."))


def _plain(value: Any) -> Any:
    """The same without Ansible's own types, which remember where they come from."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    for kind in (str, int, float):
        if isinstance(value, kind) and not isinstance(value, bool):
            return kind(value)
    return value


def _place_of(host: AnsibleHost, source: Source, directory: Path) -> Place:
    """The host's line. A host that a range such as slave[1:9] stands for is at the top of the file."""
    return source.host_places.get(host.name, Place(path=directory / "hosts.yml"))
