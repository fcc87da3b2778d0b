"""`make deploy`: what it adds to pyinfra."""

from typing import Any

import pytest

from inventories.cluster import Cluster, InventoryError, ResolvedHost
from inventories.deployment import changes, limit_arguments
from tests.roles.checkout import run


def _host(**connection: Any) -> ResolvedHost:
    return ResolvedHost(groups=("slaves",), connection=connection, roles={})


CLUSTER = Cluster(
    hosts={"slave1": _host(), "slave2": _host(), "here": _host(local=True)},
    groups={"all": ("slave1", "slave2", "here"), "slaves": ("slave1", "slave2")},
)


@pytest.mark.parametrize(
    ("limit", "names"),
    [
        ("slave1", ["slave1"]),
        ("slaves", ["slave1", "slave2"]),
        ("slave*", ["slave1", "slave2"]),
        ("slave2,slaves", ["slave2", "slave1"]),
        ("here", ["@local"]),
    ],
)
def test_a_limit_may_name_hosts_groups_and_patterns(limit: str, names: list[str]) -> None:
    assert limit_arguments(CLUSTER, limit) == [word for name in names for word in ("--limit", name)]


@pytest.mark.parametrize("limit", ["slave3", "slave1,slave3", ","])
def test_a_limit_that_matches_no_host_is_refused(limit: str) -> None:
    with pytest.raises(InventoryError, match=r"no host matches .*groups slaves"):
        limit_arguments(CLUSTER, limit)


def test_a_plan_lists_what_would_change_by_host() -> None:
    plan = {
        "plan": [
            {"name": "base | Write", "hosts_with_change": ["b", "a"], "hosts_with_conditional_change": ["a"]},
            {"name": "base | Prove", "hosts_with_change": [], "hosts_with_conditional_change": []},
        ]
    }

    assert list(changes(plan)) == ["a: base | Write", "b: base | Write"]


def test_an_inventory_that_is_not_there_is_named() -> None:
    done = run("inventories.deployment", "nowhere", "--limit", "x")

    assert done.returncode == 2
    assert "nowhere" in done.stderr
