"""A slot's directory."""

from pathlib import Path

import pytest

from dist_test.errors import RunError
from dist_test.running.work_dir import WorkDir


def test_a_directory_in_use_is_refused_until_it_is_released(tmp_path: Path) -> None:
    first, second = WorkDir(tmp_path / "slot", None), WorkDir(tmp_path / "slot", None)
    first.prepare()
    with pytest.raises(RunError, match="in use by another slot"):
        second.prepare(lock_limit_seconds=0)
    first.release()
    second.prepare(lock_limit_seconds=0)
    second.release()


def test_results_of_an_earlier_user_are_removed(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results/1.stdout").touch()
    work_dir = WorkDir(tmp_path, None)
    work_dir.prepare()
    work_dir.release()
    assert list(work_dir.results.iterdir()) == []


def test_what_is_set_aside_makes_room_for_the_next_attempt(tmp_path: Path) -> None:
    work_dir = WorkDir(tmp_path, None)
    work_dir.prepare()
    (work_dir.attempt / "tree").mkdir()
    tree = work_dir.set_aside()
    work_dir.release()
    assert tree.is_dir()
    assert list(work_dir.attempt.iterdir()) == []


def test_a_place_that_is_no_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file"):
        WorkDir(tmp_path / "file", None).prepare()
