"""Zips read by ranges."""

import io
import struct
import warnings
import zipfile

import pytest

from dist_test.errors import ResultNotFound, UnsafeArchive
from dist_test.master import artifact_zip
from dist_test.master.artifact_zip import chunks, list_members, opened_member

from ...fakes.results import FakeResults


def packed(*files: tuple[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice, which is what we want
        for name, data in files:
            archive.writestr(name, data)
    return content.getvalue()


def read(content: bytes, number: int) -> bytes:
    with opened_member(FakeResults({"zip": content}), "zip", len(content), number) as (_, member):
        return b"".join(chunks(member))


def test_members_are_listed_without_reading_them() -> None:
    content = packed(("a/big", bytes(range(256)) * 40_000), ("b/", b""), ("c", b"ccc"))
    results = FakeResults({"zip": content})

    members = list_members(results, "zip", len(content))

    assert [(member.number, member.name, member.size_bytes) for member in members] == [
        (0, "a/big", 10_240_000),
        (2, "c", 3),
    ]


def test_a_listing_reads_the_end_of_a_big_archive_only() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("big", b"x" * 20_000_000)
        archive.writestr("small", b"y")
    results = FakeResults({"zip": content.getvalue()})

    assert len(list_members(results, "zip", len(content.getvalue()))) == 2

    assert sum(size for _, size in results.reads) < 2 * 2**20
    assert min(start for start, _ in results.reads) > 19_000_000


def test_one_member_is_read() -> None:
    content = packed(("a", b"aaa"), ("b", b"b" * 1_000_000), ("a", b"another a"))

    assert read(content, 1) == b"b" * 1_000_000
    assert read(content, 2) == b"another a"


@pytest.mark.parametrize("number", [1, 2, 99])
def test_what_is_no_file_is_refused(number: int) -> None:
    with pytest.raises(UnsafeArchive, match=f"no file number {number}"):
        read(packed(("a", b""), ("b/", b"")), number)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 1000, packed(("a", b"a"))[:-5]], ids=range(4))
def test_what_is_no_zip_is_refused(content: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        list_members(FakeResults({"zip": content}), "zip", len(content))


def test_a_damaged_member_is_noticed() -> None:
    content = bytearray(packed(("a", b"hello, hello, hello")))
    content[40] ^= 0xFF

    with pytest.raises(UnsafeArchive):
        read(bytes(content), 0)


def test_a_directory_beyond_the_budget_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_zip, "MAX_DIRECTORY_BYTES", 1000)
    content = packed(*((f"name-{number}", b"") for number in range(100)))

    with pytest.raises(UnsafeArchive, match="too large"):
        list_members(FakeResults({"zip": content}), "zip", len(content))


def test_a_member_that_unpacks_to_more_than_it_says_ends_where_it_says() -> None:
    content = bytearray(packed(("bomb", b"\0" * 1_000_000)))
    begin = content.rfind(b"PK\x01\x02")
    content[begin + 24 : begin + 28] = struct.pack("<I", 10)

    with pytest.raises(UnsafeArchive):  # the checksum is that of the whole
        read(bytes(content), 0)


def test_a_member_that_says_it_is_huge_is_refused() -> None:
    content = bytearray(packed(("bomb", b"\0")))
    begin = content.rfind(b"PK\x01\x02")
    content[begin + 24 : begin + 28] = struct.pack("<I", 2**31)

    with pytest.raises(UnsafeArchive, match="download the whole archive"):
        read(bytes(content), 0)


def test_a_file_without_a_name_is_listed() -> None:
    content = bytearray(packed(("n", b"nameless")))
    begin, end = content.rfind(b"PK\x01\x02"), content.rfind(b"PK\x05\x06")
    struct.pack_into("<I", content, end + 12, end - begin - 1)
    struct.pack_into("<H", content, begin + 28, 0)
    del content[begin + 46]

    (member,) = list_members(FakeResults({"zip": bytes(content)}), "zip", len(content))

    assert (member.name, member.size_bytes) == ("", 8)


def test_a_method_that_takes_memory_without_limit_is_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"aaa")

    with pytest.raises(UnsafeArchive, match="another method"):
        read(content.getvalue(), 0)


def test_an_archive_that_is_gone_is_said_to_be() -> None:
    with pytest.raises(ResultNotFound):
        list_members(FakeResults({}), "zip", 100)
