"""Write random passwords for a new cluster into its inventory.

python -m inventories.passwords NAME...

They go to inventories/NAME/group_vars/cluster/vault.yml, readable by its owner only; encrypted right away when
ANSIBLE_VAULT_PASSWORD_FILE names the file that holds the vault's password. A file that is there is never touched.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib

from inventories.cluster import ROOT
from inventories.credentials import weakness
from inventories.view import Vault

RANDOM_BYTES = 24  # 32 characters of letters, digits, - and _: none that an INI file or SQL takes for its own
CONTENT = """\
# The cluster's passwords. Change one here and deploy again, and it changes everywhere.
mysql_owner_password: "{}"
mysql_master_password: "{}"
mysql_slave_password: "{}"
mysql_autoscaler_password: "{}"
mysql_isolate_password: "{}"
object_store_access_key: "{}"
object_store_secret_key: "{}"
isolate_token_key: "{}"
slave_user: slave
slave_password: "{}"

# Who may submit from outside of master_allowed_networks. The slaves have one too, for retries.
master_accounts:
  slave: "{{{{ slave_password }}}}"
  admin: "{}"
"""


class CannotWrite(Exception):
    """The inventory is not there, or has passwords already."""


def main(arguments: list[str]) -> int:
    """Write the files; give the exit status."""
    parser = argparse.ArgumentParser(prog="inventories.passwords", description="Write random passwords.")
    parser.add_argument("name", nargs="+", help="an inventory: NAME for inventories/NAME, or a path")
    for name in parser.parse_args(arguments).name:
        try:
            sys.stdout.write(_write(Path(name) if "/" in name else ROOT / "inventories" / name) + "\n")
        except CannotWrite as exc:
            sys.stderr.write(f"{exc}\n")
            return 1
    return 0


def _write(directory: Path) -> str:
    """Write one file; say what to do next."""
    path = directory / "group_vars" / "cluster" / "vault.yml"
    _refuse(directory, path)
    vault = Vault(DataLoader())
    shown = os.path.relpath(path)
    text = CONTENT.format(*(_password() for _ in range(CONTENT.count('"{}"'))))
    if vault.secrets:
        text = VaultLib(vault.secrets).encrypt(text, vault.secrets[0][1]).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    if vault.secrets:
        return f"{shown}: written and encrypted; `.venv/bin/ansible-vault edit {shown}` shows and changes it"
    return f"{shown}: written in clear; before it goes into a repository: .venv/bin/ansible-vault encrypt {shown}"


def _refuse(directory: Path, path: Path) -> None:
    if not (directory / "hosts.yml").is_file():
        raise CannotWrite(f"{directory} holds no hosts.yml; copy inventories/example there first")
    if path.exists():
        raise CannotWrite(f"{path} is there already; a cluster may know its passwords, so remove it yourself")
    beside = path.parent.with_suffix(".yml")
    if beside.exists():
        raise CannotWrite(f"{beside} would no longer be read beside a directory; move it to {path.parent}/settings.yml")


def _password() -> str:
    while weakness(password := secrets.token_urlsafe(RANDOM_BYTES)):
        pass
    return password


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
