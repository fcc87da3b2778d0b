"""Zips of artifacts, which tests make: what `fetch` unpacks, and what the master reads by ranges."""

import io
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import strategies as st

from dist_test.cli.archive import unpack
from dist_test.errors import UnsafeArchive
from dist_test.master.artifact_zip import chunks, list_members, opened_member
from dist_test.running.tree import remove_tree

from ..fakes.results import FakeResults
from .conftest import Fuzz
from .target import Target, refusal

MAX_UNPACKED_BYTES = 2**24
NAMES = st.sampled_from(
    (
        *(
            "a",
            "b",
            "d/a",
            "d/",
            "../a",
            "/a",
            "d/../../a",
            "C:/a",
            "C:\\a",
            "..\\a",
            "a\0b",
            "",
            ".",
            "..",
            "./a",
            "é",
        ),
        *("a" * 300, "a/" * 300 + "a", "a/" * 2_100 + "a", "\udc80", "con", " ", "a//b"),
    )
)
KINDS = st.sampled_from((0, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFIFO, 0o4755))
CONTENTS = st.sampled_from((b"", b"x", b"../../a", b"/etc/passwd", bytes(10_000), b"x" * 200_000))
METHODS = st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Zips that are whole, whatever is in them."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in draw(st.lists(NAMES, max_size=4, unique=True)):
            info = zipfile.ZipInfo("x")
            info.filename = name.encode("utf-8", "replace").decode()
            info.external_attr = draw(KINDS) << 16
            archive.writestr(info, draw(CONTENTS), draw(METHODS))
    return content.getvalue()


class Laptop:
    """A directory in which archives are unpacked, and what else is there."""

    def __init__(self, root: Path) -> None:
        self.outside = root
        self._archive = root / "artifacts.zip"
        self._destination = root / "results" / "artifacts"
        self._destination.parent.mkdir()
        (root / "a").write_text("mine")

    def unpack(self, data: bytes) -> str:
        """As `dist-test fetch` does."""
        self._archive.write_bytes(data)
        try:
            unpack(self._archive, self._destination)
            return f"unpacked {self._look()} kinds"
        except UnsafeArchive as exc:
            return refusal(exc)
        finally:
            remove_tree(str(self._destination))
            assert sorted(path.name for path in self.outside.iterdir()) == ["a", "artifacts.zip", "results"]
            assert (self.outside / "a").read_text() == "mine"
            assert not list(self._destination.parent.iterdir())

    def _look(self) -> int:
        modes = [path.lstat().st_mode for path in self._destination.rglob("*")]
        assert all(stat.S_ISREG(mode) or stat.S_ISDIR(mode) for mode in modes), "not only files and directories"
        assert not any(mode & (stat.S_ISUID | stat.S_ISGID) for mode in modes)
        return len({stat.S_IFMT(mode) for mode in modes})


def read_by_ranges(data: bytes) -> str:
    """As the master shows it: the list of its members, and each one's content, no longer than the list says."""
    results = FakeResults({"zip": data})
    try:
        members = list_members(results, "zip", len(data))
        for member in members[:5]:
            with opened_member(results, "zip", len(data), member.number) as (found, content):
                assert found == member
                read = 0
                for chunk in chunks(content):
                    read += len(chunk)
                    assert read <= member.size_bytes
    except UnsafeArchive as exc:
        return refusal(exc)
    return f"{min(len(members), 2)} members"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_is_unpacked_in_its_directory_or_refused(fuzz: Fuzz, tmp_path: Path) -> None:
    fuzz(Target(name="zip", read=Laptop(tmp_path).unpack, inputs=archives()))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_is_read_by_ranges_or_refused(fuzz: Fuzz) -> None:
    fuzz(Target(name="ranged-zip", read=read_by_ranges, inputs=archives()))
