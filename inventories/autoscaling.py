"""Rules on the autoscaler: what its program would refuse on the host is said before."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dist_test.errors import ConfigurationError
from dist_test_autoscale.settings import policy_settings
from inventories.model import Host, Inventory, Mistake, Rule

CONFIG, GROUPS, PROJECT = "autoscaler_config", "autoscaler_groups", "autoscaler_project"
# Where an inventory has what the program calls by these names; CONFIG has the others.
VARIABLES = {"group": GROUPS, "project": PROJECT}


def settings_are_right(inventory: Inventory) -> Iterator[Mistake]:
    for host in inventory.hosts_of("autoscaler"):
        config, groups, project = (host.get(name) for name in (CONFIG, GROUPS, PROJECT))
        # A value of another kind is the business of another rule.
        if isinstance(config, dict) and isinstance(groups, list):
            for wrong in _refusals({**config, "project": project, "group": groups}):
                yield _mistake(inventory, host, wrong)
            yield from _groups_are_somewhere(inventory, host, groups)


def _refusals(document: Mapping[str, Any]) -> list[str]:
    try:
        policy_settings(document, where="")
    except ConfigurationError as exc:
        return str(exc).splitlines()
    return []


def _mistake(inventory: Inventory, host: Host, refusal: str) -> Mistake:
    """What the program says, such as `config.size.max_total is -1: give …`, of the variable that has it."""
    words = refusal.removeprefix("config.")
    key = VARIABLES.get(words.split()[0].split(".")[0].split("[")[0], CONFIG)
    # Behind an unknown key stands `; did you mean …`, behind a wrong value `: give …`.
    wrong, instead = re.split("[:;] ", words, maxsplit=1)
    return Mistake(place=inventory.place_for(host, key), key=key, wrong=wrong, instead=instead)


def _groups_are_somewhere(inventory: Inventory, host: Host, groups: list[Any]) -> Iterator[Mistake]:
    for group in groups:
        if isinstance(group, dict) and not group.get("zone") and not group.get("region"):
            wrong = f"group {group.get('name')} has neither zone nor region"
            place = inventory.place_for(host, GROUPS)
            yield Mistake(place=place, key=GROUPS, wrong=wrong, instead="give one of them")


RULES: tuple[Rule, ...] = (settings_are_right,)
