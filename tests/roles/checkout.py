"""A checkout in miniature: one playbook, one role, one inventory, written by the test that needs them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from inventories.cluster import ROOT, Cluster

PASSWORD_VARIABLE = "ANSIBLE_VAULT_PASSWORD_FILE"
_SITE = """\
- hosts: shops
  roles: [shop]
"""
_SPECS = """\
argument_specs:
  main:
    options:
      shop_port: {type: int}
      shop_names: {type: list, elements: str}
"""
_DEFAULTS = """\
shop_port: 80
shop_names: []
"""
_HOSTS = """\
shops:
  hosts:
    one:
    two:
"""


@dataclass(frozen=True, kw_only=True)
class Checkout:
    root: Path

    @classmethod
    def write(cls, root: Path) -> "Checkout":
        checkout = cls(root=root)
        checkout.put("playbooks/site.yml", _SITE)
        checkout.put("roles/shop/defaults/main.yml", _DEFAULTS)
        checkout.put("roles/shop/meta/argument_specs.yml", _SPECS)
        checkout.put("inventory/hosts.yml", _HOSTS)
        return checkout

    @property
    def inventory(self) -> Path:
        return self.root / "inventory"

    def put(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def resolve(self) -> Cluster:
        done = self.try_to_resolve()
        assert done.returncode == 0, done.stderr
        return Cluster.from_json(done.stdout)

    def try_to_resolve(self) -> "subprocess.CompletedProcess[str]":
        return run("inventories.resolver", "--root", str(self.root), str(self.inventory))


def run(module: str, *arguments: str, password_file: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """One of our programs, as the tools start it; `password_file` opens vaults."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    if password_file:
        environment[PASSWORD_VARIABLE] = str(password_file)
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
