"""The package that hosts get."""

import hashlib
import os
from pathlib import Path

import pytest

from inventories import wheel


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the wheel goes in this test: not where that of the checkout is."""
    path = tmp_path / wheel.path().name
    monkeypatch.setattr(wheel, "path", lambda: path)
    return path


def test_the_same_sources_give_the_same_bytes(built: Path) -> None:
    wheel.build()
    first = hashlib.sha256(built.read_bytes()).hexdigest()
    built.unlink()
    wheel.build()

    assert hashlib.sha256(built.read_bytes()).hexdigest() == first


def test_it_is_built_when_it_is_missing_or_older_than_a_source(built: Path) -> None:
    wheel.ensure()
    assert wheel.is_current()

    newest = max(source.stat().st_mtime for source in wheel.sources())
    os.utime(built, (newest - 1, newest - 1))
    assert not wheel.is_current()


def test_a_build_that_fails_says_why(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "ROOT", built.parent)

    with pytest.raises(wheel.WheelError, match=r"the wheel cannot be built .*hatchling build"):
        wheel.build()
