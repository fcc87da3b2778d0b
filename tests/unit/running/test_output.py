"""The cap on a task's output."""

from pathlib import Path

import pytest

from dist_test.model.cut_log import CUT_LINE
from dist_test.running.output import CappedOutput


def capped(path: Path, parts: list[bytes], limit_bytes: int) -> bytes:
    with path.open("wb") as target:
        output = CappedOutput(target.fileno(), limit_bytes)
        for part in parts:
            output.write(part)
        output.finish()
    return path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 49, 50, 51, 99, 100])
def test_output_within_the_limit_is_kept_as_it_is(tmp_path: Path, size: int) -> None:
    content = bytes(range(256))[:size]
    assert capped(tmp_path / "out", [content[:30], content[30:]], 100) == content


@pytest.mark.parametrize("part_bytes", [1, 7, 64, 1000])
def test_head_and_tail_of_longer_output_are_kept_and_the_cut_is_marked(tmp_path: Path, part_bytes: int) -> None:
    content = b"".join(b"%05d\n" % number for number in range(1000))
    parts = [content[start : start + part_bytes] for start in range(0, len(content), part_bytes)]
    expected = content[:50] + CUT_LINE.format(dropped=len(content) - 101, limit=101).encode() + content[-51:]
    assert capped(tmp_path / "out", parts, 101) == expected


def test_one_byte_over_the_limit_is_said(tmp_path: Path) -> None:
    assert b"left out 1 bytes" in capped(tmp_path / "out", [b"x" * 101], 100)
