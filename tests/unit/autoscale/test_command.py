"""The program: what it prints, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dist_test_autoscale.command import main
from tests.unit.autoscale.worlds import Document, waiting, world

TOML = '[autoscale]\nproject = "p"\n[[autoscale.group]]\nname = "spot-b"\nzone = "us-central1-b"\n'


def plan(tmp_path: Path, document: Any, *arguments: str) -> int:
    path = tmp_path / "snapshot.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return main(["plan", "--snapshot", str(path), *arguments])


@pytest.mark.parametrize(
    ("document", "status"),
    [
        pytest.param(world(), 0, id="no change"),
        pytest.param(world(**waiting(1)), 10, id="a change is wanted"),
        pytest.param(world(leader=False), 20, id="hold"),
        pytest.param("{", 2, id="no JSON"),
        pytest.param({}, 2, id="no snapshot"),
        pytest.param(world(config={"size": {"max": 1}}), 2, id="a bad config"),
    ],
)
def test_the_exit_status_tells_what_is_wanted(tmp_path: Path, document: Any, status: int) -> None:
    assert plan(tmp_path, document, "--json") == status


def test_json_is_the_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(tmp_path, world(**waiting(100)), "--json")
    answer: Document = json.loads(capsys.readouterr().out)
    assert set(answer) == {"hold", "desired", "capacity", "reasons", "actions", "state"}
    assert answer["actions"] == [{"kind": "grow", "group": "spot-b", "n": 12}]


def test_people_get_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(tmp_path, world(**waiting(100)))
    assert capsys.readouterr().out.splitlines() == [
        "100 tasks wait and 0 run, 6000 s of work: 12 slaves are wanted, 0 are there or boot",
        "spot-b: buy 12",
        "  grow spot-b: 12",
    ]


def test_what_is_wrong_with_a_snapshot_is_told_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(tmp_path, world(now="soon"))
    assert capsys.readouterr().err == (f"dist-test-autoscale: {tmp_path}/snapshot.json: now is 'soon': give a number\n")


def test_a_snapshot_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--snapshot", str(tmp_path / "none")]) == 2
    assert "none: cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_good_configuration_is_said_to_be_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "autoscale.toml"
    path.write_text(TOML)
    assert main(["validate-config", "--config", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: good; 1 group: spot-b\n"


def test_every_mistake_of_a_configuration_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "autoscale.toml"
    path.write_text(TOML.replace("name", "nam"))
    assert main(["validate-config", "--config", str(path)]) == 2
    assert [line.removeprefix(f"dist-test-autoscale: {path}: ") for line in capsys.readouterr().err.splitlines()] == [
        "autoscale.group[0].nam is not known; did you mean name?",
        "autoscale.group[0].name is not set: name of a managed instance group.",
    ]


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "dist_test_autoscale", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
