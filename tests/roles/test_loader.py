"""Inventories as pyinfra gets them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from inventories.cluster import ROOT

TESTBED = ROOT / "inventories/testbed"


def pyinfra(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(TESTBED / "vault-password")}
    command = [sys.executable, "-m", "pyinfra", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_pyinfra_finds_hosts_and_groups_and_shows_no_secret() -> None:
    done = pyinfra(str(TESTBED.with_suffix(".py")), "debug-inventory")

    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert all(word in printed for word in ("slave1", "object_store", "ssh_known_hosts_file"))
    assert "testbed-" not in printed  # as all passwords in its vault begin


def test_a_wrong_inventory_stops_pyinfra_in_words(tmp_path: Path) -> None:
    shutil.copytree(TESTBED, tmp_path / "mine")
    shutil.copy(TESTBED.with_suffix(".py"), tmp_path / "mine.py")
    (tmp_path / "mine/group_vars/slaves.yml").write_text("slave_slots: several\n")

    done = pyinfra("-y", str(tmp_path / "mine.py"), "deploy.py")

    assert done.returncode == 1
    assert "slave_slots" in done.stderr
    assert "Traceback" not in done.stderr


def test_data_for_roles_on_the_command_line_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "inventories/local", tmp_path / "local", ignore=shutil.ignore_patterns("secrets"))
    shutil.copy(ROOT / "inventories/local.py", tmp_path)

    done = pyinfra("--dry", "--json", "--data", "base_user=root", str(tmp_path / "local.py"), "deploy.py")

    assert done.returncode == 1
    assert "--data base_user=... does not reach roles" in done.stderr
