"""Which files a glob matches, and what becomes of too many of them."""

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from dist_test.running.artifacts import DROPPED_NAME, Artifact, archive, choose, find


def found(root: Path, *globs: str) -> list[str]:
    artifacts, notes = find(str(root), globs)
    assert notes == []
    return [artifact.path for artifact in artifacts]


def packed(root: Path, globs: Sequence[str], limit_bytes: int = 10**6) -> tuple[dict[str, bytes], list[str]]:
    target = io.BytesIO()
    _, notes = archive(str(root), globs, target, limit_bytes=limit_bytes)
    if not target.getvalue():
        return {}, notes
    with zipfile.ZipFile(target) as content:
        return {name: content.read(name) for name in content.namelist()}, notes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name in (
        "a.log",
        "build/a.log",
        "build/debug/test-logs/x.xml",
        "build/debug/test-logs/deep/er/y.xml",
        ".hidden",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("*.log", ["a.log"]),
        ("**/*.log", ["a.log", "build/a.log"]),
        ("build/*/test-logs/**/*", ["build/debug/test-logs/deep/er/y.xml", "build/debug/test-logs/x.xml"]),
        ("build/**", ["build/a.log", "build/debug/test-logs/deep/er/y.xml", "build/debug/test-logs/x.xml"]),
        ("**/test-logs/**/y.xml", ["build/debug/test-logs/deep/er/y.xml"]),
        ("./build//a.l?g", ["build/a.log"]),
        ("build/[ab].log", ["build/a.log"]),
        ("*", [".hidden", "a.log"]),
        ("build", []),
        ("../tree/a.log", []),
        ("/etc/passwd", []),
        ("", []),
    ],
)
def test_globs_match_regular_files_below_the_root(tree: Path, glob: str, expected: list[str]) -> None:
    assert found(tree, glob) == expected


def test_a_file_that_two_globs_match_is_found_once(tree: Path) -> None:
    assert found(tree, "*.log", "a.*") == ["a.log"]


def test_links_are_neither_matched_nor_followed(tree: Path) -> None:
    (tree / "secret.log").symlink_to("/etc/passwd")
    (tree / "outside").symlink_to("/etc")
    (tree / "loop").symlink_to(".")
    assert found(tree, "*.log", "outside/*", "outside/**/passwd", "loop/*") == ["a.log"]


def test_pipes_are_not_matched(tree: Path) -> None:
    os.mkfifo(tree / "pipe.log")
    assert found(tree, "*.log") == ["a.log"]


def test_members_are_named_relative_to_the_root(tree: Path) -> None:
    assert packed(tree, ["build/*.log"]) == ({"build/a.log": b"build/a.log"}, [])


def test_nothing_is_written_when_nothing_matches(tree: Path) -> None:
    assert packed(tree, ["*.xml"]) == ({}, [])


def test_over_the_limit_the_smallest_are_kept_and_the_dropped_are_listed(tmp_path: Path) -> None:
    for name, size in (("big", 900), ("middle", 60), ("small", 30)):
        (tmp_path / name).write_bytes(b"x" * size)
    members, notes = packed(tmp_path, ["*"], limit_bytes=100)
    assert sorted(members) == [DROPPED_NAME, "middle", "small"]
    assert b"900\tbig" in members[DROPPED_NAME]
    assert "1 artifacts (900 bytes) were left out" in notes[0]


def test_exactly_the_limit_is_kept() -> None:
    artifacts = [Artifact(path="a", size_bytes=60), Artifact(path="b", size_bytes=40)]
    assert choose(artifacts, 100) == (artifacts, [])


def test_names_that_are_not_unicode_are_escaped(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).write_text("x")
    assert packed(tmp_path, ["*"]) == ({"caf\\xe9": b"x"}, [])


def test_places_that_cannot_be_read_cost_no_others_and_are_noted_as_text(tree: Path) -> None:
    _nest(tree, b"\xff" * 100, 45)

    content, notes = packed(tree, ["**/*.log"])

    assert list(content) == ["a.log", "build/a.log"]
    assert [note.split(" could not be read: ")[1] for note in notes] == ["File name too long"]
    assert "\\xff" in notes[0].encode().decode()  # so that MySQL takes it


def test_of_many_notes_some_are_kept(tree: Path) -> None:
    for number in range(15):
        _nest(tree / "build", b"%02d" % number + b"x" * 98, 45)

    _, notes = packed(tree, ["**/*.log"])

    assert len(notes) == 11
    assert notes[-1] == "5 more such notes"


def _nest(directory: Path, name: bytes, depth: int) -> None:
    """Make directories deeper than a path can be, with a log in the last one."""
    descriptor = os.open(directory, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open(b"deep.log", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def test_files_from_before_1980_can_be_packed(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    os.utime(tmp_path / "old", (0, 0))
    assert packed(tmp_path, ["*"]) == ({"old": b"x"}, [])
