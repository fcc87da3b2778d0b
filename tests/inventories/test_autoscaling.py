"""What the check of an inventory says of the autoscaler's settings."""

from typing import Any

import pytest

from inventories import autoscaling, credentials
from tests.inventories.test_rules import GENERATE, a_host, an_inventory, found

GROUP = {"name": "spot-b", "zone": "us-central1-b", "max": 10}


def refusals(**values: Any) -> list[str]:
    good = {"autoscaler_project": "our-project", "autoscaler_groups": [GROUP], "autoscaler_config": {}}
    return found(autoscaling.settings_are_right, an_inventory(a_host("one", "autoscaler", **good | values)))


def test_good_settings_have_no_mistakes() -> None:
    assert refusals(autoscaler_config={"interval_s": 5, "size": {"max_total": 10}}) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(
            {"autoscaler_groups": []},
            "autoscaler_groups: group is empty; name at least one managed instance group",
            id="no group",
        ),
        pytest.param(
            {"autoscaler_groups": [{**GROUP, "min": 20}]},
            "autoscaler_groups: group[0].min (spot-b) is 20, more than its max, 10; lower it",
            id="a contradiction",
        ),
        pytest.param(
            {"autoscaler_groups": [{"name": "spot-b"}]},
            "autoscaler_groups: group spot-b has neither zone nor region; give one of them",
            id="no place",
        ),
        pytest.param(
            {"autoscaler_project": ""},
            "autoscaler_project: project is ''; Compute Engine takes only names such as my-project",
            id="no project",
        ),
        pytest.param(
            {"autoscaler_config": {"size": {"max_totel": 5}}},
            "autoscaler_config: size.max_totel is not known; did you mean max_total?",
            id="an unknown key",
        ),
        pytest.param(
            {"autoscaler_config": {"interval_s": "5"}},
            "autoscaler_config: interval_s is '5'; give a number from 2 to 3600",
            id="a text for a number",
        ),
    ],
)
def test_what_the_program_would_refuse_is_named(values: dict[str, Any], expected: str) -> None:
    assert refusals(**values) == [f"hosts.yml:9: {expected}"]


def test_values_of_another_kind_are_left_to_another_rule() -> None:
    assert refusals(autoscaler_groups="spot-b") == []


def test_an_autoscaler_without_an_account_is_named() -> None:
    inventory = an_inventory(a_host("one", "autoscaler"))
    assert found(credentials.passwords_are_there, inventory) == [
        f"hosts.yml:9: mysql_autoscaler_password: it has no value; {GENERATE}"
    ]
