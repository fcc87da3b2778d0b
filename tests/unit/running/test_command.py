"""Which program `command[0]` means."""

from pathlib import Path

import pytest

from dist_test.running.command import resolve


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("here", "{cwd}/here"),
        ("./missing", "{cwd}/missing"),
        ("../up", "{parent}/up"),
        ("sh", "sh"),
        ("/bin/sh", "/bin/sh"),
    ],
)
def test_the_first_word_is_looked_for_in_the_cwd_and_then_in_the_path(
    tmp_path: Path, command: str, expected: str
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    (cwd / "here").touch()
    assert resolve(command, str(cwd)) == expected.format(cwd=cwd, parent=tmp_path)
