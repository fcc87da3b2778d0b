"""Writing and removing the private tree."""

import os
import stat
from pathlib import Path

import pytest

from dist_test.running.tree import TreeEntry, empty_directory, remove_tree, write_tree


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(b"content")
    path.chmod(0o444)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_files_are_copies_and_never_share_the_cached_inode(tmp_path: Path, blob: Path) -> None:
    write_tree([TreeEntry("a/b", str(blob), 0o444)], tmp_path / "tree")
    (tmp_path / "tree/a/b").write_bytes(b"changed")
    assert blob.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("given", "expected"), [(0o444, 0o644), (0o555, 0o755), (None, 0o644), (0o640, 0o640), (0o4777, 0o777), (0, 0o600)]
)
def test_modes_are_kept_and_the_owner_may_write(tmp_path: Path, blob: Path, given: int | None, expected: int) -> None:
    write_tree([TreeEntry("f", str(blob), given)], tmp_path / "tree")
    assert mode(tmp_path / "tree/f") == expected


@pytest.mark.parametrize("size", [0, 1, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 1_000_000])
def test_content_is_whole_whatever_its_size(tmp_path: Path, size: int) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(size))
    write_tree([TreeEntry("f", str(source), None)], tmp_path / "tree")
    assert (tmp_path / "tree/f").read_bytes() == source.read_bytes()


def test_links_are_recreated_even_when_they_lead_nowhere(tmp_path: Path) -> None:
    write_tree([TreeEntry("d/link", link="../missing")], tmp_path / "tree")
    assert (tmp_path / "tree/d/link").readlink() == Path("../missing")


def test_no_file_is_written_through_a_link_of_the_same_tree(tmp_path: Path, blob: Path) -> None:
    entries = [TreeEntry("d", link=str(tmp_path)), TreeEntry("d/f", str(blob), None)]
    with pytest.raises(FileExistsError):
        write_tree(entries, tmp_path / "tree")
    assert not (tmp_path / "f").exists()


def test_the_isolated_document_lies_in_the_root(tmp_path: Path) -> None:
    write_tree([], tmp_path / "tree", b"{}")
    assert (tmp_path / "tree/task.isolated").read_bytes() == b"{}"


def test_an_entry_without_a_source_is_an_empty_file(tmp_path: Path) -> None:
    write_tree([TreeEntry("a/empty")], tmp_path / "tree")
    assert (tmp_path / "tree/a/empty").read_bytes() == b""


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_tree([TreeEntry("f", str(tmp_path / "missing"))], tmp_path / "tree")


def test_very_deep_directories_can_be_removed(tmp_path: Path) -> None:
    start = os.open(tmp_path, os.O_RDONLY)
    directory = start
    for _ in range(2500):
        os.mkdir("d" * 20, dir_fd=directory)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    remove_tree(str(tmp_path / ("d" * 20)))
    assert list(tmp_path.iterdir()) == []


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path, blob: Path) -> None:
    (tmp_path / "link").symlink_to(blob)
    remove_tree(str(tmp_path / "link"))
    assert blob.exists()


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "missing"))


@pytest.mark.parametrize("kind", ["missing", "file", "link", "locked directory"])
def test_a_directory_is_made_empty_whatever_is_in_its_place(tmp_path: Path, blob: Path, kind: str) -> None:
    path = tmp_path / "home"
    if kind == "file":
        path.write_text("x")
    elif kind == "link":
        path.symlink_to(tmp_path)
    elif kind == "locked directory":
        (path / "sub").mkdir(parents=True)
        path.chmod(0)
    empty_directory(str(path))
    assert list(path.iterdir()) == []
    assert mode(path) == 0o700
    assert blob.exists()
