"""Resolve an inventory with Ansible's own engine: python -m inventories.resolver [--check] inventories/NAME

Prints the cluster as JSON, secrets included, for the program at the other end of a pipe; with --check, one line.
Runs in a process of its own because Ansible changes the process it is imported into (it replaces parts of socket and
the signal handlers) and pyinfra cannot live with that.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import constants
from ansible._internal._datatag._tags import Origin
from ansible.cli import CLI
from ansible.errors import AnsibleError
from ansible.inventory.host import Host
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import AnsibleVaultError
from ansible.template import trust_as_template
from ansible.utils.vars import combine_vars

from inventories import wheel
from inventories.cluster import ROOT, Cluster, InventoryError, ResolvedHost, ResolvedRole
from inventories.connection import connection_variables, pyinfra_connection
from inventories.engine import Engine, read_mapping


@dataclass(frozen=True, kw_only=True)
class RoleFiles:
    """What a role has on this computer, read once for all hosts."""

    name: str
    path: Path
    defaults: Mapping[str, Any]
    options: Mapping[str, Any]
    templates: Mapping[str, str]


class Resolver:
    """Knows one inventory, and the playbook and roles of the checkout at `root`; `cluster` does the work."""

    def __init__(self, inventory: Path, root: Path = ROOT) -> None:
        self.inventory_path = inventory
        loader = DataLoader()
        secrets = CLI.setup_vault_secrets(loader, constants.DEFAULT_VAULT_IDENTITY_LIST, auto_prompt=False)
        loader.set_vault_secrets(secrets)
        self.engine = Engine.of(inventory, loader, root=root)
        self.plays = plays(loader, root / "playbooks/site.yml")
        self.roles = {name: read_role(loader, root / "roles" / name) for _, names in self.plays for name in names}

    def cluster(self) -> Cluster:
        """Everything, for all hosts. Raises InventoryError."""
        hosts = {host.name: self._host(host) for host in self.engine.inventory.get_hosts()}
        if not hosts:
            raise InventoryError(f"{self.inventory_path} has no hosts; see inventories/example")
        groups = {name: tuple(members) for name, members in self.engine.inventory.get_groups_dict().items() if members}
        return Cluster(hosts=hosts, groups=groups)

    def ensure_wheel(self) -> None:
        """Build the wheel of this checkout if a host is to get that one and it is missing or old."""
        for host in self.engine.inventory.get_hosts():
            variables = self.engine.variables_of(host)
            if "base_wheel" not in variables:
                continue
            path = self._value(variables, "base_wheel", f"host {host.name}")
            if Path(path).resolve() == wheel.path():
                wheel.ensure()
                return

    def _host(self, host: Host) -> ResolvedHost:
        variables = self.engine.variables_of(host)
        roles = {name: self._role(host, name) for name in self._role_names(host)}
        groups = tuple(sorted(group.name for group in host.get_groups()))
        return ResolvedHost(groups=groups, connection=self._connection(host, variables), roles=roles)

    def _connection(self, host: Host, variables: Mapping[str, Any]) -> dict[str, Any]:
        names = connection_variables(variables)
        values = {name: self._value(variables, name, f"host {host.name}") for name in names}
        return pyinfra_connection(host.name, values)

    def _role_names(self, host: Host) -> Iterator[str]:
        for pattern, names in self.plays:
            if host in self.engine.inventory.get_hosts(pattern):
                yield from names

    def _role(self, host: Host, name: str) -> ResolvedRole:
        role, where = self.roles[name], f"host {host.name}, role {name}"
        place = {"role_name": role.name, "role_path": str(role.path)}
        variables = combine_vars(self.engine.variables_of(host, role.defaults), place)
        names = [key for key in {**role.defaults, **role.options} if key in variables]
        values = {key: self._value(variables, key, where) for key in names}
        check_arguments(role.options, values, where)
        # With the values in it, templates need not compute them again: most of the time for many hosts.
        known = combine_vars(variables, values)
        templates = {path: self._text(role, path, known, where) for path in role.templates}
        return ResolvedRole(vars=values, templates=templates)

    def _value(self, variables: Mapping[str, Any], name: str, where: str) -> Any:
        try:
            return self.engine.templar(variables).template(variables[name])
        except AnsibleError as exc:
            raise InventoryError(f"{where}: variable {name}: {one_line(exc, variables[name])}") from exc

    def _text(self, role: RoleFiles, path: str, variables: Mapping[str, Any], where: str) -> str:
        """The bytes that Ansible's template module would write, see ansible/plugins/action/template.py."""
        try:
            templar = self.engine.templar(variables).copy_with_new_env(searchpath=[str(role.path / "templates")])
            # An own option: without it, a backslash in a string of a template counts twice.
            text = templar.template(role.templates[path], escape_backslashes=False, overrides={"trim_blocks": True})
        except AnsibleError as exc:
            raise InventoryError(f"{where}: template roles/{role.name}/templates/{path}: {one_line(exc)}") from exc
        return "" if text is None else str(text)


def plays(loader: DataLoader, playbook: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Host pattern and role names of each play that has roles, in the order of the playbook."""
    read = loader.load_from_file(str(playbook))
    return tuple((play["hosts"], tuple(map(_role_name, play["roles"]))) for play in read if play.get("roles"))


def _role_name(entry: Any) -> str:
    return str(entry["role"] if isinstance(entry, Mapping) else entry)


def read_role(loader: DataLoader, path: Path) -> RoleFiles:
    """Defaults, argument specification and templates of the role at `path`."""
    specs = read_mapping(loader, path / "meta/argument_specs.yml").get("argument_specs", {})
    return RoleFiles(
        name=path.name,
        path=path,
        defaults=read_mapping(loader, path / "defaults/main.yml"),
        options=specs.get("main", {}).get("options", {}),
        templates=dict(_templates(path / "templates")),
    )


def _templates(directory: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(directory.rglob("*.j2")):
        text = Origin(path=str(path)).tag(path.read_text(encoding="utf-8"))
        yield str(path.relative_to(directory)), trust_as_template(text)


def check_arguments(options: Mapping[str, Any], values: Mapping[str, Any], where: str) -> None:
    """Raises InventoryError when values do not fit the role's meta/argument_specs.yml."""
    result = ArgumentSpecValidator(dict(options)).validate(dict(values), validate_role_argument_spec=True)
    if result.error_messages:
        raise InventoryError(f"{where}: {'; '.join(result.error_messages)}")


def one_line(error: AnsibleError, value: Any = None) -> str:
    """What is wrong, and in which file and line as far as Ansible knows: where it failed, else where `value` stands."""
    text = " ".join(str(error).split())
    if any(isinstance(cause, AnsibleVaultError) for cause in _causes(error)):
        text += " Name the file that holds the vault's password in ANSIBLE_VAULT_PASSWORD_FILE."
    places = [_origin(getattr(cause, "obj", None)) for cause in _causes(error)] + [_origin(value)]
    return next((f"{text} ({place})" for place in places if place), text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _origin(value: Any) -> Any:
    return value if isinstance(value, Origin) else Origin.get_tag(value)


def resolve(inventory: Path, root: Path = ROOT) -> Cluster:
    """The cluster that `inventory` (a directory, or its hosts.yml) describes. Raises InventoryError.

    Works once in a process: Ansible keeps its plugins and the passwords of vaults in globals.
    """
    path = inventory / "hosts.yml" if inventory.is_dir() else inventory
    if not path.is_file():
        raise InventoryError(f"there is no {path}; name a directory of inventories/")
    try:
        resolver = Resolver(path.resolve(), root)
        resolver.ensure_wheel()
        return resolver.cluster()
    except AnsibleError as exc:
        raise InventoryError(one_line(exc)) from exc
    except wheel.WheelError as exc:
        raise InventoryError(str(exc)) from exc


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m inventories.resolver", description="Resolve an inventory.")
    parser.add_argument("--check", action="store_true", help="say only whether all of it can be resolved")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout whose playbooks/ and roles/ count")
    parser.add_argument("inventory", type=Path)
    arguments = parser.parse_args()
    try:
        cluster = resolve(arguments.inventory, arguments.root.resolve())
    except InventoryError as exc:
        sys.stderr.write(f"inventories: {exc}\n")
        return 1
    text = f"{arguments.inventory}: {len(cluster.hosts)} hosts" if arguments.check else cluster.to_json()
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
