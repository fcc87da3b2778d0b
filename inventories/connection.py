"""Say in pyinfra's words how Ansible reaches a host."""

import getpass
import shlex
from collections.abc import Mapping
from typing import Any

from inventories.cluster import InventoryError

# Ansible's variable, pyinfra's name for it.
_SSH_NAMES = {
    "ansible_host": "ssh_hostname",
    "ansible_port": "ssh_port",
    "ansible_user": "ssh_user",
    "ansible_password": "ssh_password",
    "ansible_ssh_private_key_file": "ssh_key",
}
_BECOME_NAMES = {"ansible_become_password": "_sudo_password"}
_SSH_OPTIONS = {
    "userknownhostsfile": "ssh_known_hosts_file",
    "stricthostkeychecking": "ssh_strict_host_key_checking",
}
# Where ssh's own arguments may stand. pyinfra has no OpenSSH, so each of them needs a counterpart.
_ARGUMENT_VARIABLES = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
_NAMES = (
    *_SSH_NAMES,
    *_BECOME_NAMES,
    *_ARGUMENT_VARIABLES,
    "ansible_connection",
    "ansible_become",
    "ansible_become_method",
    "ansible_become_user",
)


def connection_variables(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a host's variables that `pyinfra_connection` reads, still unresolved."""
    return {name: variables[name] for name in _NAMES if name in variables}


def pyinfra_connection(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Data for pyinfra's connector. Raises InventoryError for what pyinfra cannot do."""
    kind = str(variables.get("ansible_connection", "ssh")).removeprefix("ansible.builtin.")
    if kind == "local":
        return {"local": True, **_become(host, variables, getpass.getuser())}
    if kind not in ("ssh", "smart"):
        raise InventoryError(f"host {host}: ansible_connection is {kind}; pyinfra knows ssh and local here")
    ssh = {"ssh_hostname": host, **_renamed(_SSH_NAMES, variables), **_ssh_arguments(host, variables)}
    return {**ssh, **_become(host, variables, ssh.get("ssh_user", getpass.getuser()))}


def _renamed(names: Mapping[str, str], variables: Mapping[str, Any]) -> dict[str, Any]:
    return {new: variables[old] for old, new in names.items() if variables.get(old) not in (None, "")}


def _become(host: str, variables: Mapping[str, Any], login: str) -> dict[str, Any]:
    if variables.get("ansible_become_method", "sudo") not in ("sudo", "ansible.builtin.sudo"):
        raise InventoryError(f"host {host}: ansible_become_method is {variables['ansible_become_method']}; use sudo")
    if variables.get("ansible_become_user", "root") != "root":
        raise InventoryError(f"host {host}: ansible_become_user is {variables['ansible_become_user']}; roles need root")
    # As Ansible does: root needs no sudo, which may not even be installed.
    if not variables.get("ansible_become", False) or login == "root":
        return {}
    return {"_sudo": True, **_renamed(_BECOME_NAMES, variables)}


def _ssh_arguments(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable in _ARGUMENT_VARIABLES:
        words = iter(shlex.split(str(variables.get(variable) or "")))
        for word in words:
            found |= _ssh_argument(host, variable, word, words)
    return found


def _ssh_argument(host: str, variable: str, word: str, words: Any) -> dict[str, Any]:
    """One argument of ssh: -F FILE, -o NAME=VALUE, or the same in one word."""
    flag, value = word[:2], word[2:] or next(words, "")
    if flag == "-F":
        return {"ssh_config_file": value}
    name, _, setting = value.partition("=")
    if flag == "-o" and name.strip().lower() in _SSH_OPTIONS:
        return {_SSH_OPTIONS[name.strip().lower()]: setting.strip()}
    raise InventoryError(
        f"host {host}: pyinfra cannot do {word} {value} of {variable}; write it into a file for -F FILE"
    )
