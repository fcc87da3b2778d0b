"""Our operations under pyinfra itself, on this computer."""

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from inventories.cluster import ROOT


@dataclass(frozen=True, kw_only=True)
class Trial:
    """pyinfra with plan.py, in a directory of its own."""

    directory: Path

    def run(self, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pyinfra", *arguments, "@local", "tests/roles/plan.py"]
        environment = {**os.environ, "TRIAL": str(self.directory), "TRIAL_TEXT": text}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120
        )

    def apply(self, text: str) -> list[str]:
        """The operations that changed something."""
        done = self.run(text, "-y", "--json")
        assert done.returncode == 0, done.stderr
        return [
            operation["name"] for operation in json.loads(done.stdout)["results"]["operations"] if operation["success"]
        ]

    def plan(self, text: str) -> list[str]:
        done = self.run(text, "--dry", "--json")
        assert done.returncode == 0, done.stderr
        return [operation["name"] for operation in json.loads(done.stdout)["plan"] if operation["hosts_with_change"]]

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(directory=tmp_path)


CONFIGURE, START = "trial | Configure", "trial | Start after the configuration"


def test_a_step_sees_what_an_earlier_one_of_the_same_run_has_changed(trial: Trial) -> None:
    assert trial.apply("good\n") == [CONFIGURE, START]
    assert trial.apply("good, too\n") == [CONFIGURE, START]
    assert trial.read("running") == "good, too\n"
    assert trial.read("log") == "start\nstart\n"


def test_a_second_run_changes_nothing(trial: Trial) -> None:
    trial.apply("good\n")

    assert trial.apply("good\n") == []


def test_a_plan_finds_what_someone_has_changed_by_hand(trial: Trial) -> None:
    trial.apply("good\n")
    assert trial.plan("good\n") == []

    (trial.directory / "config").chmod(0o644)
    (trial.directory / "running").unlink()

    assert trial.plan("good\n") == [CONFIGURE, START]


def test_a_plan_changes_nothing(trial: Trial) -> None:
    trial.plan("good\n")

    assert list(trial.directory.iterdir()) == []


def test_a_step_that_failed_is_done_by_the_next_run(trial: Trial) -> None:
    (trial.directory / "log").mkdir()  # so that the start fails halfway
    failed = trial.run("good\n", "-y")
    assert failed.returncode == 1

    (trial.directory / "running").unlink()
    (trial.directory / "log").rmdir()

    assert trial.apply("good\n") == [START]


def test_what_does_not_work_in_the_end_fails_the_run_and_says_why(trial: Trial) -> None:
    done = trial.run("bad\n", "-y")

    assert done.returncode == 1
    assert "exit 1" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["no newline", "", "two\n\n", "ä 'quoted' \\ $HOME\n"])
def test_a_secret_arrives_byte_by_byte_with_its_mode(trial: Trial, text: str) -> None:
    trial.run(text, "-y")

    path = trial.directory / "config"
    assert path.read_bytes() == text.encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(trial.directory.glob("config*")) == [path]


def test_a_secret_is_not_in_the_output_however_much_one_asks_for(trial: Trial) -> None:
    text = "good password-7f3a\n"
    encoded = base64.b64encode(text.encode()).decode()

    done = trial.run(text, "-y", "-vvv", "--debug", "--debug-all", "--diff")

    assert done.returncode == 0, done.stderr
    assert "password-7f3a" not in done.stdout + done.stderr
    assert encoded not in done.stdout + done.stderr
