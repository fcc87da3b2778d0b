"""The check as operators run it: on the inventories that are there to be copied."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("example", "example_single", "gce")


def run(module: str, *arguments: str | Path, vault_password: Path | None = None) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_VAULT_PASSWORD_FILE"}
    if vault_password:
        environment["ANSIBLE_VAULT_PASSWORD_FILE"] = str(vault_password)
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip


def copy(name: str, directory: Path) -> Path:
    return Path(shutil.copytree(ROOT / "inventories" / name, directory / "mine"))


def edit(directory: Path) -> None:
    """Do what the comments of the copied files ask for."""
    for path in directory.rglob("*.yml"):
        text = path.read_text().replace("192.0.2.", "10.0.0.").replace("dist-test.example.com", "dist-test.corp.test")
        path.write_text(text.replace("example-", "our-"))


@pytest.mark.parametrize("name", COPIED)
def test_a_copy_is_refused_until_every_placeholder_is_replaced(tmp_path: Path, name: str) -> None:
    mine = copy(name, tmp_path)
    checked = run("inventories.check", mine)
    assert checked.returncode == 1
    lines = checked.stdout.splitlines()
    assert any("public_name: dist-test.example.com comes from the example" in line for line in lines)
    hint = "mysql_owner_password: it has no value; run `.venv/bin/python -m inventories.passwords mine`"
    assert any(hint in line for line in lines)
    assert lines[-1] == f"{mine}: {sum(': warning: ' not in line for line in lines[:-1])} to mend"
    assert all(line.startswith(f"{mine}/") and "; " in line for line in lines[:-1]), checked.stdout


@pytest.mark.parametrize(("name", "hosts"), [("example", "3 hosts"), ("example_single", "1 hosts")])
def test_an_edited_copy_with_passwords_is_good(tmp_path: Path, name: str, hosts: str) -> None:
    mine = copy(name, tmp_path)
    edit(mine)
    assert run("inventories.passwords", mine).returncode == 0
    checked = run("inventories.check", mine)
    assert (checked.stdout, checked.returncode) == (f"{mine}: good, {hosts}\n", 0)


def test_an_edited_copy_for_gce_wants_the_s3_account_and_asks_nobody(tmp_path: Path) -> None:
    mine = copy("gce", tmp_path)
    edit(mine)
    run("inventories.passwords", mine)
    assert "s3_access_key: no host is in the group object_store" in run("inventories.check", mine).stdout
    with (mine / "group_vars/cluster/vault.yml").open("a") as file:
        file.write("s3_access_key: GOOG1\ns3_secret_key: under the old bridge\n")
    checked = run("inventories.check", mine)
    assert (checked.stdout, checked.returncode) == (
        f"{mine}: good, 3 hosts, slaves are discovered when it is used\n",
        0,
    )


def test_all_mistakes_are_told_at_once_with_file_and_line(tmp_path: Path) -> None:
    mine = copy("example_single", tmp_path)
    edit(mine)
    run("inventories.passwords", mine)
    (mine / "group_vars/slaves.yml").write_text("slave_slot: 2\nslave_container_engine:\n")
    (mine / "group_vars/mastres.yml").write_text("master_port: 443\n")
    (mine / "group_vars/masters.yml").write_text("\nmaster_port: 4242\n")
    checked = run("inventories.check", mine)
    places = [line.removeprefix(f"{mine}/").split(": ")[:2] for line in checked.stdout.splitlines()[:-1]]
    assert places == [
        ["group_vars/masters.yml:2", "master_port"],
        ["group_vars/mastres.yml:1", "mastres"],
        ["group_vars/slaves.yml:1", "slave_slot"],
        ["group_vars/slaves.yml:2", "slave_container_engine"],
    ], checked.stdout


def test_a_vault_without_its_password_says_which_variable_to_set(tmp_path: Path) -> None:
    mine, password = copy("example_single", tmp_path), tmp_path / "password"
    edit(mine)
    password.write_text("of the vault")
    written = run("inventories.passwords", mine, vault_password=password)
    assert "written and encrypted" in written.stdout
    assert (mine / "group_vars/cluster/vault.yml").read_text().startswith("$ANSIBLE_VAULT")
    assert run("inventories.check", mine, vault_password=password).returncode == 0
    assert run("inventories.check", mine).stdout.splitlines()[0] == (
        f"{mine}/group_vars/cluster/vault.yml:1: vault.yml: the vault cannot be opened (no password is given); "
        "name the file that holds the vault's password: export ANSIBLE_VAULT_PASSWORD_FILE=PATH"
    )


def test_passwords_that_are_there_are_not_touched(tmp_path: Path) -> None:
    mine = copy("example_single", tmp_path)
    run("inventories.passwords", mine)
    vault = mine / "group_vars/cluster/vault.yml"
    before = vault.read_bytes()
    assert vault.stat().st_mode & 0o777 == 0o600
    again = run("inventories.passwords", mine)
    assert (again.returncode, vault.read_bytes()) == (1, before)
    assert "is there already" in again.stderr


def test_passwords_do_not_hide_settings(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "group_vars").mkdir(parents=True)
    (mine / "hosts.yml").write_text("cluster:\n")
    (mine / "group_vars/cluster.yml").write_text("a: 1\n")
    refused = run("inventories.passwords", mine)
    assert refused.returncode == 1
    assert "move it to" in refused.stderr


def test_passwords_need_an_inventory(tmp_path: Path) -> None:
    refused = run("inventories.passwords", tmp_path / "mine")
    assert refused.returncode == 1
    assert "copy inventories/example there first" in refused.stderr


def test_hosts_yml_may_be_named_instead_of_its_directory(tmp_path: Path) -> None:
    mine = copy("example", tmp_path)
    assert run("inventories.check", mine / "hosts.yml").stdout == run("inventories.check", mine).stdout
