"""Commands as whole programs: what goes wrong is one line."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(*words: str, stdout: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the package with its output in a file."""
    with Path(stdout).open("wb") as target:
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, stdout=target, stderr=subprocess.PIPE, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "words",
    [
        ("dist_test.cli.isolate_program", "version"),
        ("dist_test.cli.main", "--help"),
        ("dist_test.cli.run_isolated_program", "--help"),
    ],
    ids=lambda words: words[0],
)
def test_a_full_disk_below_the_output_is_told_in_a_line(words: tuple[str, ...]) -> None:
    answer = run(*words, stdout="/dev/full")

    assert answer.returncode == 1
    assert answer.stderr == "dist-test: [Errno 28] No space left on device\n"


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "-1"])
def test_a_time_limit_is_a_number_of_seconds(seconds: str) -> None:
    answer = run("dist_test.cli.run_isolated_program", f"--hard-timeout={seconds}", "-H", "0" * 40, stdout="/dev/null")

    assert answer.returncode == 2
    assert "Invalid value for '--hard-timeout'" in answer.stderr
