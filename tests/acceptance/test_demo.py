"""`make demo` tells agreement from disagreement."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE_SUITE = Path(__file__).parents[1] / "sample_suite"


def demo(suite_dir: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dist_test.local", "demo", "--suite", str(suite_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def small_suite(directory: Path, **changes: object) -> Path:
    """The sample suite's quickest test alone, with changes to what is expected of it."""
    shutil.copytree(SAMPLE_SUITE, directory)
    (directory / "tasks.json").write_text(json.dumps({"tasks": [{"description": "fails", "timeout": 30}]}))
    expected = json.loads((directory / "expected.json").read_text())["fails"]
    (directory / "expected.json").write_text(json.dumps({"fails": expected | changes}))
    return directory


def test_the_sample_suite_comes_out_as_expected() -> None:
    run = demo(SAMPLE_SUITE)
    assert "everything as expected" in run.stdout, run.stdout + run.stderr
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"outcome": "succeeded"}, "outcome: failed, not succeeded"),
        ({"logs": {"0.stderr": ["found 4 apples"]}}, "0.stderr lacks 'found 4 apples'"),
    ],
    ids=["outcome", "log"],
)
def test_a_changed_expectation_ends_non_zero(tmp_path: Path, changes: dict[str, object], difference: str) -> None:
    run = demo(small_suite(tmp_path / "suite", **changes))
    assert run.returncode == 1
    assert difference in " ".join(run.stdout.split())
    [kept] = re.findall(r"logs and results are in (\S+)", run.stdout)
    shutil.rmtree(kept)


def test_a_suite_whose_files_disagree_is_refused_at_once(tmp_path: Path) -> None:
    suite_dir = small_suite(tmp_path / "suite")
    (suite_dir / "tasks.json").write_text('{"tasks": [{"description": "other"}]}')
    run = demo(suite_dir)
    assert run.returncode == 1
    assert "only one of tasks.json and expected.json has fails, other" in run.stderr
