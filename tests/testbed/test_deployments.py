"""What the two tools say that they changed."""

import json

import pytest

from tests.testbed.deployments import DeploymentFailed, ansible_changes, pyinfra_changes

_PLAN = [{"name": "base | Write the file", "hosts_with_change": ["master1", "queue1"]}]
_DONE = [{"name": "base | Write the file", "success": ["master1"], "no_change": ["queue1"]}]
_RECAP = """
PLAY RECAP *********************************************************************
master1                    : ok=3    changed={changed}    unreachable=0    failed=0    skipped=0
"""
_TASK = "TASK [base : Write the file] ***\n{verdict}: [master1]\n"


def test_a_pyinfra_run_changed_what_it_did_on_hosts() -> None:
    printed = json.dumps({"plan": _PLAN, "results": {"operations": _DONE}})
    assert pyinfra_changes(printed) == ["master1: base | Write the file"]


def test_a_dry_pyinfra_run_would_change_what_it_plans() -> None:
    printed = json.dumps({"plan": _PLAN, "results": None})
    assert pyinfra_changes(printed) == ["master1: base | Write the file", "queue1: base | Write the file"]


def test_pyinfra_without_a_plan_is_a_failure() -> None:
    with pytest.raises(DeploymentFailed, match="no plan"):
        pyinfra_changes("No hosts found")


def test_an_ansible_run_changed_what_its_tasks_say() -> None:
    printed = _TASK.format(verdict="changed") + _RECAP.format(changed=1)
    assert ansible_changes(printed) == ["master1: base : Write the file"]


def test_an_ansible_run_in_which_all_is_ok_changed_nothing() -> None:
    assert ansible_changes(_TASK.format(verdict="ok") + _RECAP.format(changed=0)) == []


@pytest.mark.parametrize(
    "printed",
    [_TASK.format(verdict="changed") + _RECAP.format(changed=0), _RECAP.format(changed=1), "no recap"],
    ids=["task without count", "count without task", "neither"],
)
def test_ansible_that_contradicts_itself_is_a_failure(printed: str) -> None:
    with pytest.raises(DeploymentFailed, match="do not agree"):
        ansible_changes(printed)
