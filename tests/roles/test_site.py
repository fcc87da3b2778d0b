"""What ships: the two tools give the same roles to the same hosts, and every role is whole."""

import ast
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from inventories.cluster import ROOT, Cluster, ResolvedRole
from tests.roles.checkout import run

PLAYS = yaml.safe_load((ROOT / "playbooks/site.yml").read_text())
WIRING: Mapping[str, Any] = yaml.safe_load((ROOT / "playbooks/group_vars/all.yml").read_text())
ROLES = [role for play in PLAYS for role in play.get("roles", ())]
INVENTORIES = sorted(path.parent.name for path in (ROOT / "inventories").glob("*/hosts.yml"))
STAGES = [{"base"}, {"mysql", "beanstalkd", "object_store"}, {"isolate", "master"}, {"autoscaler", "slave", "backup"}]


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            yield statement.value


def _stages_of_deploy() -> list[list[str]]:
    """The roles of deploy.py between the operations that all hosts share."""
    stages: list[list[str]] = [[]]
    for call in _calls(ast.parse((ROOT / "deploy.py").read_text())):
        if isinstance(call.func, ast.Name) and call.func.id == "apply":
            stages[-1].append(ast.literal_eval(call.args[0]))
        else:
            stages.append([])
    return stages


def test_both_tools_run_the_same_roles_in_the_same_order() -> None:
    assert [role for stage in _stages_of_deploy() for role in stage] == ROLES


def test_an_upgrade_has_every_role_with_both_tools() -> None:
    """An upgrade leaves nothing for the site to change."""
    plays = yaml.safe_load((ROOT / "playbooks/upgrade.yml").read_text())
    by_ansible = {role["role"] for play in plays for role in play.get("vars", {}).get("upgrade_roles", ())}
    calls = (node for node in ast.walk(ast.parse((ROOT / "playbooks/upgrade.py").read_text())) if _is_apply(node))
    by_pyinfra = {ast.literal_eval(call.args[0]) for call in calls if isinstance(call, ast.Call)}

    assert by_ansible | {"base"} == by_pyinfra == set(ROLES)


def _is_apply(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "apply"


def test_a_stage_waits_for_the_one_that_it_needs() -> None:
    assert [set(stage) for stage in _stages_of_deploy()] == STAGES


def test_no_play_has_variables_of_its_own() -> None:
    """Only what defaults, wiring and inventories say reaches both tools."""
    assert {key for play in PLAYS if "roles" in play for key in play} == {"name", "hosts", "gather_facts", "roles"}


def test_every_directory_of_roles_is_a_role_of_the_site() -> None:
    directories = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir() and path.name != "__pycache__"}

    assert directories == set(ROLES)


@pytest.mark.parametrize("role", ROLES)
class TestRole:
    def test_it_is_written_for_both_tools(self, role: str) -> None:
        parts = ("defaults/main.yml", "meta/argument_specs.yml", "tasks/main.yml", "deploy.py")

        assert [part for part in parts if not (ROOT / "roles" / role / part).is_file()] == []

    def test_it_keeps_to_what_both_tools_have(self, role: str) -> None:
        """Variables that inventories cannot set, and handlers, exist for Ansible only."""
        assert [part for part in ("vars", "handlers") if (ROOT / "roles" / role / part).exists()] == []

    def test_its_specification_covers_its_defaults_exactly(self, role: str) -> None:
        defaults = _read(role, "defaults/main.yml")
        options = _read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]

        assert sorted(options) == sorted(defaults)
        assert [name for name in defaults if not name.startswith(f"{role}_")] == []

    def test_it_documents_every_option(self, role: str) -> None:
        options = _read(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]

        assert [name for name, option in options.items() if not option.get("description")] == []

    def test_what_the_wiring_tells_it_is_a_variable_of_it(self, role: str) -> None:
        wired = {name for name in WIRING if name.startswith(f"{role}_")}

        assert wired - set(_read(role, "defaults/main.yml")) == set()

    def test_the_wiring_repeats_its_defaults_faithfully(self, role: str) -> None:
        """hostvars cannot see a role's defaults, so that the wiring has to name ports and users again."""
        defaults = _read(role, "defaults/main.yml")
        plain = {name: value for name, value in WIRING.items() if name in defaults and "{{" not in str(value)}

        assert {name: defaults[name] for name in plain} == plain

    def test_it_reads_nothing_of_other_roles(self, role: str) -> None:
        foreign = tuple(f"{other}_" for other in ROLES if other != role)
        read = {name for path in _sources(role) for name in _words(path.read_text())}

        assert sorted(name for name in read if name.startswith(foreign) and name in _all_defaults()) == []
        assert read & {"hostvars", "groups", "ansible_facts", "group_names"} == set()


@pytest.mark.parametrize("name", INVENTORIES)
def test_every_template_renders_for_every_inventory_that_ships(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / name
    shutil.copytree(ROOT / "inventories" / name, directory)
    monkeypatch.setenv("INVENTORY_DISCOVERY", "off")  # else gce asks Google for its slaves
    password_file = directory / "vault-password" if (directory / "vault-password").exists() else None
    if not list(directory.rglob("vault.yml")):
        run("inventories.passwords", str(directory))

    done = run("inventories.resolver", str(directory), password_file=password_file)

    assert done.returncode == 0, done.stderr
    rendered = {role: set(found.templates) for role, found in _roles(Cluster.from_json(done.stdout))}
    assert rendered == {role: _templates(role) for role in rendered}


def test_the_firewall_leaves_the_port_open_by_which_the_operator_came(tmp_path: Path) -> None:
    directory = tmp_path / "example"
    shutil.copytree(ROOT / "inventories/example", directory)
    (directory / "host_vars").mkdir()
    (directory / "host_vars/slave1.yml").write_text("ansible_port: 2222\n")
    run("inventories.passwords", str(directory))

    hosts = Cluster.from_json(run("inventories.resolver", str(directory)).stdout).hosts

    opened = {name: host.roles["base"].vars["base_open_ports"] for name, host in hosts.items()}
    assert opened == {"server1": [22, 80, 443], "slave1": [22, 2222], "slave2": [22]}


def _roles(cluster: Cluster) -> Iterator[tuple[str, ResolvedRole]]:
    for host in cluster.hosts.values():
        yield from host.roles.items()


def _templates(role: str) -> set[str]:
    directory = ROOT / "roles" / role / "templates"
    return {str(path.relative_to(directory)) for path in directory.rglob("*.j2")}


def _read(role: str, name: str) -> Mapping[str, Any]:
    read: Mapping[str, Any] = yaml.safe_load((ROOT / "roles" / role / name).read_text())
    return read


def _all_defaults() -> set[str]:
    return {name for role in ROLES for name in _read(role, "defaults/main.yml")}


def _sources(role: str) -> Iterator[Path]:
    for part in ("tasks", "templates", "defaults"):
        yield from (path for path in (ROOT / "roles" / role / part).rglob("*") if path.is_file())


def _words(text: str) -> set[str]:
    return set("".join(char if char.isalnum() or char == "_" else " " for char in text).split())
