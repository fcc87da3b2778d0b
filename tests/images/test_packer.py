"""The definitions for Packer are ones that Debian's Packer takes. Compute Engine itself is not there to be asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IMAGES = Path(__file__).parents[2] / "images"


@pytest.fixture(autouse=True)
def _packer_is_there() -> None:
    if not shutil.which("packer"):
        pytest.skip("packer is not installed, so images/*.pkr.hcl are not validated: apt-get install packer")


def _packer(*arguments: str) -> "subprocess.CompletedProcess[str]":
    # It looks for ansible-playbook, and writes below HOME; it asks nobody when it is told not to.
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CHECKPOINT_DISABLE": "1"}
    command = ["packer", *arguments]
    return subprocess.run(command, env=environment, cwd=IMAGES.parent, capture_output=True, text=True, check=False)


def test_the_definition_for_compute_engine_is_valid() -> None:
    done = _packer("validate", "-var", "project=example", "-var", "zone=us-central1-a", "images/slave.pkr.hcl")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_project_and_zone_have_to_be_said() -> None:
    done = _packer("validate", "images/slave.pkr.hcl")
    assert done.returncode == 1
    assert 'Unset variable "project"' in done.stdout
    assert 'Unset variable "zone"' in done.stdout


def test_the_definition_for_this_computer_is_valid() -> None:
    assert _packer("validate", "images/local.pkr.hcl").returncode == 0
