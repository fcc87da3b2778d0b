"""Either tool makes the same working cluster of empty hosts, and neither finds anything to change afterwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.testbed.bed import HOSTS, Bed
from tests.testbed.conftest import Phase
from tests.testbed.deployments import deploy_with_ansible, deploy_with_pyinfra
from tests.testbed.laptop import Laptop, run_sample_suite
from tests.testbed.snapshot import Snapshot, differences
from tests.testbed.warm import WarmLayer

_TOOLS: Mapping[str, Callable[[], Sequence[str]]] = {
    "pyinfra": lambda: deploy_with_pyinfra("testbed").changes,
    "Ansible": lambda: deploy_with_ansible("testbed").changes,
}


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """What the runs changed: the tool's first and second on empty hosts, then the other tool's; hosts before that."""

    first: Sequence[str]
    second: Sequence[str]
    other: Sequence[str]
    snapshots: Mapping[str, Snapshot]
    wrong_verdicts: Mapping[str, Sequence[str]]


@pytest.fixture(scope="module")
def by_pyinfra(bed: Bed, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> Convergence:
    return converge(bed, phase, tmp_path_factory.mktemp("laptop"), tool="pyinfra", other="Ansible")


@pytest.fixture(scope="module")
def by_ansible(
    by_pyinfra: Convergence, bed: Bed, phase: Phase, tmp_path_factory: pytest.TempPathFactory
) -> Convergence:
    """After `by_pyinfra`, since there is one set of hosts."""
    with phase("keep what was downloaded"):
        layer = WarmLayer(tree=bed.tree).top_up(map(bed.host, HOSTS))
    with phase("five fresh hosts"):
        bed.with_layers(layer).reset()
    return converge(bed, phase, tmp_path_factory.mktemp("laptop"), tool="Ansible", other="pyinfra")


def converge(bed: Bed, phase: Phase, directory: Path, *, tool: str, other: str) -> Convergence:
    with phase(f"{tool} on empty hosts"):
        first = _TOOLS[tool]()
    with phase(f"{tool} again"):
        second = _TOOLS[tool]()
    with phase("snapshots"):
        snapshots = {name: Snapshot.of(bed.host(name)) for name in HOSTS}
    with phase("sample suite"):
        verdicts = run_sample_suite(Laptop.beside(bed, directory))
    with phase(f"{other} over {tool}"):
        changes = _TOOLS[other]()
    return Convergence(
        first=first,
        second=second,
        other=changes,
        snapshots=snapshots,
        wrong_verdicts={name: wrong for name, wrong in verdicts.items() if wrong},
    )


@pytest.fixture(scope="module", params=["by_pyinfra", "by_ansible"])
def convergence(request: pytest.FixtureRequest) -> Convergence:
    result: Convergence = request.getfixturevalue(request.param)
    return result


def test_first_run_changes_every_host(convergence: Convergence) -> None:
    assert {change.partition(":")[0] for change in convergence.first} == set(HOSTS)


def test_second_run_changes_nothing(convergence: Convergence) -> None:
    assert convergence.second == []


def test_other_tool_has_nothing_to_change(convergence: Convergence) -> None:
    assert convergence.other == []


def test_sample_suite_comes_out_as_expected(convergence: Convergence) -> None:
    assert convergence.wrong_verdicts == {}


def test_no_service_runs_with_an_older_configuration(convergence: Convergence) -> None:
    assert [stale for snapshot in convergence.snapshots.values() for stale in snapshot.stale_services] == []


def test_no_unit_has_failed(convergence: Convergence) -> None:
    assert [unit for snapshot in convergence.snapshots.values() for unit in snapshot.failed_units] == []


@pytest.mark.parametrize("name", HOSTS)
def test_both_tools_leave_the_same_host(name: str, by_pyinfra: Convergence, by_ansible: Convergence) -> None:
    found = differences(by_pyinfra.snapshots[name], by_ansible.snapshots[name])
    assert not found, "\n".join(found)
