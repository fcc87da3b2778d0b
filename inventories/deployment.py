"""Set up a cluster with pyinfra, or say what would change: python -m inventories.deployment NAME [--dry]

Adds to `pyinfra -y inventories/NAME.py deploy.py` what pyinfra itself lets pass: a limit that matches no host, and a
plan with changes in it, are failures here. Exit status: 0 done, or nothing to do; 1 the plan has changes; 2 failed.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from inventories import loader
from inventories.cluster import ROOT, Cluster, InventoryError

DRIFT = 1
FAILED = 2


def limit_arguments(cluster: Cluster, limit: str) -> list[str]:
    """pyinfra's arguments for host names, groups or patterns separated by commas. Raises InventoryError."""
    return limit_words(cluster, [name for pattern in limit.split(",") for name in _matches(cluster, pattern)])


def limit_words(cluster: Cluster, hosts: Iterable[str]) -> list[str]:
    """pyinfra's arguments for these hosts of the inventory."""
    names = dict.fromkeys(loader.pyinfra_name(name, cluster.hosts[name].connection) for name in hosts)
    return [word for name in names for word in ("--limit", name)]


def _matches(cluster: Cluster, pattern: str) -> Iterable[str]:
    members = cluster.groups.get(pattern) or [name for name in cluster.hosts if fnmatchcase(name, pattern)]
    if not members:
        groups = ", ".join(name for name in cluster.groups if name != "all")
        raise InventoryError(f"no host matches {pattern}; there are the groups {groups}")
    return members


def changes(plan: dict[str, Any]) -> Iterator[str]:
    """A line for each host and operation of pyinfra's JSON that would change something."""
    for operation in plan["plan"]:
        for host in sorted({*operation["hosts_with_change"], *operation["hosts_with_conditional_change"]}):
            yield f"{host}: {operation['name']}"


def run_pyinfra(arguments: list[str], directory: Path, file: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """`pyinfra ARGUMENTS inventories/NAME.py FILE`, from the top of the checkout."""
    command = [sys.executable, "-m", "pyinfra", *arguments, str(directory.with_suffix(".py")), file]
    return subprocess.run(command, cwd=ROOT, text=True, check=False, **options)


def environment_of(directory: Path) -> dict[str, str]:
    """Ours, with the password of the vault that lies in the inventory unless the caller has named one."""
    password = directory / "vault-password"
    beside = {"ANSIBLE_VAULT_PASSWORD_FILE": str(password)} if password.exists() else {}
    return {**beside, **os.environ}


def apply(directory: Path, limit: list[str]) -> int:
    return FAILED if run_pyinfra(["-y", *limit], directory, "deploy.py").returncode else 0


def plan(directory: Path, limit: list[str]) -> int:
    """Print what would change. What follows from it, such as a restart, pyinfra sees only when it acts."""
    done = run_pyinfra(["--dry", "--json", *limit], directory, "deploy.py", stdout=subprocess.PIPE)
    if done.returncode:
        return FAILED
    lines = list(changes(json.loads(done.stdout)))
    sys.stdout.write("".join(f"{line}\n" for line in lines) or "nothing would change\n")
    return DRIFT if lines else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m inventories.deployment", description="Set up a cluster.")
    parser.add_argument("--limit", default="", help="hosts, groups or patterns, separated by commas")
    parser.add_argument("--dry", action="store_true", help="only print what would change; exit status 1 if anything")
    parser.add_argument("name", help="which one of inventories/")
    arguments = parser.parse_args()
    directory = ROOT / "inventories" / arguments.name
    os.environ.update(environment_of(directory))
    try:
        limit = limit_arguments(loader.load(directory), arguments.limit) if arguments.limit else []
        return plan(directory, limit) if arguments.dry else apply(directory, limit)
    except InventoryError as exc:
        sys.stderr.write(f"inventories: {exc}\n")
        return FAILED
    except KeyboardInterrupt:
        # pyinfra itself ends with 0 then.
        sys.stderr.write("inventories: interrupted; the same command does the rest\n")
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
