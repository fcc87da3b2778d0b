"""Archiving: what ends in the document, what is remembered, what is refused."""

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from dist_test.errors import IsolateError
from dist_test.isolate import stat_cache as stat_cache_module
from dist_test.isolate.archive import Archive, Archiver
from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.format import Isolated, Tree, merge, parse_isolated
from dist_test.isolate.isolate_file import ArchiveOptions, Variables
from dist_test.isolate.stat_cache import Hashed, StatCache

OLD_NS = 10**18  # 2001


@pytest.fixture
def archiver() -> Archiver:
    return Archiver(StatCache(None))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A root that is not the whole of the test's directory, so that there is an outside."""
    root = tmp_path / "root"
    root.mkdir()
    return root


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "digests.sqlite"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed."""
    names: list[str] = []
    hash_file = stat_cache_module.hash_file

    def recorded(path: str) -> Hashed:
        names.append(Path(path).name)
        return hash_file(path)

    monkeypatch.setattr(stat_cache_module, "hash_file", recorded)
    return names


def write(path: Path, content: str = "x", *, mode: int = 0o644, modified_ns: int | None = OLD_NS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    if modified_ns is not None:
        os.utime(path, ns=(modified_ns, modified_ns))
    return path


def documents(archive: Archive) -> dict[str, Isolated]:
    return {
        b.digest: parse_isolated(b.content) for b in archive.blobs if b.is_isolated and isinstance(b.content, bytes)
    }


def tree(archive: Archive) -> Tree:
    return merge(archive.digest, documents(archive))


def paths(archive: Archive) -> list[str]:
    return sorted(file.path for file in tree(archive).files)


def digest_with(path: Path, database: Path) -> str:
    cache = StatCache(database)
    try:
        return cache.digests([(str(path), path.stat())])[str(path)]
    finally:
        cache.close()


def test_files_have_digest_size_and_mode(archiver: Archiver, top: Path) -> None:
    write(top / "a/run.sh", "hello", mode=0o755)
    archive = archiver.archive(top, [f"{top}/a/run.sh"], command=["./run.sh"], relative_cwd="a")
    assert json.loads(archive.isolated) == {
        "algo": "sha-1",
        "command": ["./run.sh"],
        "files": {"a/run.sh": {"h": digest_bytes(b"hello"), "m": 0o755, "s": 5}},
        "relative_cwd": "a",
        "version": "1.4",
    }
    assert archive.digest == digest_bytes(archive.isolated)


def test_every_blob_of_the_tree_is_there_once(archiver: Archiver, top: Path) -> None:
    for name in ("a", "d/same", "d/empty"):
        write(top / name, "" if "empty" in name else "same")
    archive = archiver.archive(top, [f"{top}/a", f"{top}/d/"])
    contents = [b"".join(blob.pieces()) for blob in archive.blobs]
    assert [digest_bytes(content) for content in contents] == [blob.digest for blob in archive.blobs]
    assert sorted(content for content in contents if not content.startswith(b"{")) == [b"", b"same"]


def test_a_directory_is_a_document_of_its_own_that_other_tests_share(archiver: Archiver, top: Path) -> None:
    write(top / "d/e/f")
    first, second = (archiver.archive(top, [f"{top}/d/"], command=[name]) for name in ("first", "second"))
    assert first.digest != second.digest
    assert parse_isolated(first.isolated).includes == parse_isolated(second.isolated).includes
    assert paths(first) == ["d/e/f"]


def test_version_control_is_left_out_of_directories(archiver: Archiver, top: Path) -> None:
    for name in ("d/.git/x", "d/e/.svn/x", "d/.hg", "d/.github/x", "d/kept"):
        write(top / name)
    assert paths(archiver.archive(top, [f"{top}/d/"])) == ["d/.github/x", "d/kept"]


def test_a_blacklist_replaces_the_usual_one(archiver: Archiver, top: Path) -> None:
    for name in ("d/.git/x", "d/a.o", "d/e/b.o", "d/out/x"):
        write(top / name)
    assert paths(archiver.archive(top, [f"{top}/d/"], blacklist=("*.o", "out"))) == ["d/.git/x"]


def test_a_link_inside_the_tree_stays_a_link(archiver: Archiver, top: Path) -> None:
    write(top / "d/a")
    (top / "d/l").symlink_to("a")
    (top / "d/dangling").symlink_to("../missing")
    (top / "d/directory").symlink_to(".")
    links = {file.path: file.link for file in tree(archiver.archive(top, [f"{top}/d/"])).files}
    assert links == {"d/a": None, "d/l": "a", "d/dangling": "../missing", "d/directory": "."}


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_link_out_of_the_tree_becomes_the_file_it_points_to(archiver: Archiver, top: Path, is_absolute: bool) -> None:
    outside = write(top.parent / "outside", "out", mode=0o755)
    (top / "l").symlink_to(outside if is_absolute else "../outside")
    (file,) = tree(archiver.archive(top, [f"{top}/l"])).files
    assert (file.path, file.digest, file.mode, file.link) == ("l", digest_bytes(b"out"), 0o755, None)


def test_an_absolute_link_into_the_tree_becomes_a_file_too(archiver: Archiver, top: Path) -> None:
    (top / "l").symlink_to(write(top / "a", "in"))
    (file,) = tree(archiver.archive(top, [f"{top}/l"])).files
    assert (file.digest, file.link) == (digest_bytes(b"in"), None)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "root/missing is missing"),
        ("missing/", "root/missing/ is missing"),
        ("file/", "not a directory"),
        ("directory", "write .*root/directory/"),
        ("pipe", "neither a file"),
        ("out-missing", "outside of the tree and missing"),
        ("out-directory", "outside of the tree; link"),
        ("../outside", "not below"),
        ("link/x", "goes through link"),
        ("loop", "a link to loop, which leads back to it"),
    ],
)
def test_what_cannot_be_archived_is_named(archiver: Archiver, top: Path, path: str, message: str) -> None:
    for name in ("file", "directory/x", "../outside"):
        write(top / name)
    os.mkfifo(top / "pipe")
    (top / "out-missing").symlink_to("/nonexistent/x")
    (top / "out-directory").symlink_to("/")
    (top / "link").symlink_to("directory")
    (top / "loop").symlink_to("loop")
    with pytest.raises(IsolateError, match=message):
        archiver.archive(top, [f"{top}/link", os.path.normpath(top / path) + "/" * path.endswith("/")])


def test_a_name_that_is_not_utf_8_is_archived(archiver: Archiver, top: Path) -> None:
    write(top / os.fsdecode(b"d/caf\xe9"))
    assert paths(archiver.archive(top, [f"{top}/d/"])) == [os.fsdecode(b"d/caf\xe9")]


def test_an_isolate_file_is_archived_from_the_root_that_its_files_need(archiver: Archiver, tmp_path: Path) -> None:
    write(tmp_path / "run.sh")
    write(tmp_path / "p/q/data/x")
    isolate = write(
        tmp_path / "p/q/t.isolate",
        repr({"variables": {"command": ["../../run.sh"], "files": ["../../run.sh", "data/"]}}),
    )
    options = ArchiveOptions(
        working_directory=tmp_path, isolate=isolate, isolated=tmp_path / "out/t.isolated", variables=Variables()
    )
    archive = archiver.archive_isolate(options)
    assert paths(archive) == ["p/q/data/x", "run.sh"]
    assert tree(archive).relative_cwd == "p/q"
    assert (tmp_path / "out/t.isolated").read_bytes() == archive.isolated


def test_the_isolate_files_own_directory_is_the_root_when_nothing_is_above(archiver: Archiver, tmp_path: Path) -> None:
    write(tmp_path / "p/a/x")
    isolate = write(tmp_path / "p/t.isolate", repr({"variables": {"command": ["c"], "files": ["a/x"]}}))
    options = ArchiveOptions(
        working_directory=tmp_path, isolate=isolate, isolated=tmp_path / "t.isolated", variables=Variables()
    )
    archive = archiver.archive_isolate(options)
    assert (paths(archive), tree(archive).relative_cwd) == (["a/x"], "")


def test_an_unchanged_file_is_hashed_once(top: Path, database: Path, hashed: list[str]) -> None:
    path = write(top / "a", "content")
    assert [digest_with(path, database) for _ in range(3)] == [digest_bytes(b"content")] * 3
    assert hashed == ["a"]


def test_a_file_that_was_written_just_now_is_not_trusted(top: Path, database: Path, hashed: list[str]) -> None:
    path = write(top / "a", modified_ns=None)
    digest_with(path, database)
    digest_with(path, database)
    assert hashed == ["a", "a"]


def test_a_file_that_was_replaced_is_hashed_again_though_size_and_times_agree(top: Path, database: Path) -> None:
    path = write(top / "a", "one")
    digest_with(path, database)
    write(top / "b", "two").rename(path)
    assert digest_with(path, database) == digest_bytes(b"two")


def test_a_file_that_was_written_in_place_and_dated_back_is_hashed_again(top: Path, database: Path) -> None:
    path = write(top / "a", "one")
    digest_with(path, database)
    write(path, "two")
    assert digest_with(path, database) == digest_bytes(b"two")


def test_a_damaged_cache_of_digests_is_started_again(top: Path, database: Path, hashed: list[str]) -> None:
    path = write(top / "a")
    write(database, "this is no database" * 100)
    digest_with(path, database)
    digest_with(path, database)
    assert hashed == ["a"]


def test_a_cache_of_digests_that_cannot_be_made_is_done_without(top: Path, tmp_path: Path) -> None:
    path = write(top / "a")
    assert digest_with(path, write(tmp_path / "file") / "below") == digest_bytes(b"x")


def test_many_files_are_hashed_in_order(top: Path, database: Path) -> None:
    files = [write(top / f"{number}", f"{number}") for number in range(300)]
    cache = StatCache(database)
    digests = cache.digests([(str(path), path.stat()) for path in files])
    cache.close()
    assert digests == {str(path): digest_bytes(path.name.encode()) for path in files}


def test_what_cannot_be_a_cache_of_digests_is_done_without(top: Path, tmp_path: Path) -> None:
    write(top / "a", "hello")
    directory = tmp_path / "digests.sqlite"
    directory.mkdir()

    assert digest_with(top / "a", directory) == digest_bytes(b"hello")
    assert directory.is_dir()


def test_a_locked_cache_of_digests_is_left_alone(top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(top / "a", "hello")
    database = tmp_path / "digests.sqlite"
    monkeypatch.setattr(stat_cache_module, "_LOCK_SECONDS", 0.01)
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE mine (a)")
        other.commit()
        other.execute("BEGIN EXCLUSIVE")
        inode = database.stat().st_ino

        assert digest_with(top / "a", database) == digest_bytes(b"hello")
        assert database.stat().st_ino == inode
