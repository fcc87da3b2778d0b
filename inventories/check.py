"""Say what is wrong with an inventory, all at once, before a host is touched.

python -m inventories.check DIR...    FILE:LINE: KEY: what is wrong; what to write instead

Exit status 0: nothing, or warnings only. 1: there are mistakes. 2: it was called wrongly.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader

from inventories import addresses, autoscaling, credentials, shape, values
from inventories.catalog import read_catalog
from inventories.cluster import ROOT
from inventories.model import Inventory, Mistake, Place
from inventories.source import Reader, Source
from inventories.view import Vault, read_view

RULES = (*shape.RULES, *values.RULES, *addresses.RULES, *credentials.RULES, *autoscaling.RULES)
DISCOVERY = "gce_slaves"


def main(arguments: list[str]) -> int:
    """Check the inventories that the arguments name; give the exit status."""
    parser = argparse.ArgumentParser(prog="inventories.check", description="Say what is wrong with inventories.")
    parser.add_argument("directory", nargs="+", type=Path, help="inventories/NAME, or hosts.yml in it")
    return max(_report(_directory(path)) for path in parser.parse_args(arguments).directory)


def _directory(path: Path) -> Path:
    return path.parent if path.name == "hosts.yml" else path


def _report(directory: Path) -> int:
    # Ansible warns, on stderr, about things that the rules explain.
    with contextlib.redirect_stderr(io.StringIO()):
        inventory, mistakes = check(directory)
    for mistake in mistakes:
        sys.stdout.write(f"{replace(mistake, place=_from_here(mistake.place))}\n")
    bad = sum(not mistake.is_warning for mistake in mistakes)
    if bad:
        sys.stdout.write(f"{directory}: {bad} to mend\n")
        return 1
    found_later = ", slaves are discovered when it is used" if inventory.discovers_slaves else ""
    sys.stdout.write(f"{directory}: good, {len(inventory.hosts)} hosts{found_later}\n")
    return 0


def _from_here(place: Place) -> Place:
    path = place.path.resolve()
    return replace(place, path=path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def check(directory: Path, *, root: Path = ROOT) -> tuple[Inventory, list[Mistake]]:
    """The inventory and its mistakes, sorted by file and line. `root`: the checkout that has roles/ and playbooks/."""
    loader = DataLoader()
    source = Reader(directory, Vault(loader).decrypt).read()
    if not source.is_complete:
        return Inventory(directory=directory), _sorted(source.mistakes)
    try:
        inventory = read_inventory(directory, source, root=root, loader=loader)
    except AnsibleError as exc:
        return Inventory(directory=directory), _sorted([*source.mistakes, _refused(directory, exc)])
    return inventory, _sorted([*source.mistakes, *(mistake for rule in RULES for mistake in rule(inventory))])


def _refused(directory: Path, exc: AnsibleError) -> Mistake:
    place = Place(path=directory / "hosts.yml")
    return Mistake(place=place, key="hosts.yml", wrong=f"Ansible: {exc}", instead="see inventories/example/hosts.yml")


def read_inventory(directory: Path, source: Source, *, root: Path, loader: DataLoader) -> Inventory:
    """Put together what the files say and what Ansible makes of them."""
    catalog = read_catalog(root)
    names = {entry.name for entry in source.entries} | catalog.wired
    view = read_view(directory, source, names, root=root, loader=loader)
    return Inventory(
        directory=directory,
        hosts=view.hosts,
        uses=source.uses,
        entries=source.entries,
        order=view.order,
        catalog=catalog,
        discovers_slaves=source.plugin == DISCOVERY,
    )


def _sorted(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """By file and line; what is wrong on many hosts for one reason is said once."""
    unique = {(mistake.place, mistake.key, mistake.instead): mistake for mistake in reversed(list(mistakes))}
    return sorted(unique.values(), key=lambda mistake: (mistake.place, mistake.key))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
