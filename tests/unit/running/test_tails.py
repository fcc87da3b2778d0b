"""The end of what a running command has written, on its way from the launcher to who asks."""

import os
from pathlib import Path

import pytest

from dist_test.model.written import TAIL_BYTES, Written
from dist_test.running.output import CappedOutput
from dist_test.running.tails import TailsRequest, answer


@pytest.mark.parametrize("limit_bytes", [2 * TAIL_BYTES, 4 * TAIL_BYTES, 10 * TAIL_BYTES])
@pytest.mark.parametrize("part_bytes", [999, 70_000])
def test_the_latest_bytes_are_known_at_any_time(tmp_path: Path, limit_bytes: int, part_bytes: int) -> None:
    content = b"".join(b"%07d\n" % number for number in range(160_000))
    seen = 0
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    output = CappedOutput(fd, limit_bytes)
    for start in range(0, len(content), part_bytes):
        output.write(content[start : start + part_bytes])
        seen = min(len(content), start + part_bytes)
        assert output.latest() == Written(total_bytes=seen, tail=content[max(0, seen - TAIL_BYTES) : seen])
    os.close(fd)


def test_a_small_limit_shows_what_is_kept_at_the_end(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    output = CappedOutput(fd, 100)
    output.write(bytes(1000) + b"end")
    latest = output.latest()
    assert latest.total_bytes == 1003
    assert latest.tail.endswith(b"end")
    assert 50 <= len(latest.tail) <= 100
    os.close(fd)


def test_nothing_written_is_nothing_to_show(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_RDWR | os.O_CREAT)
    assert CappedOutput(fd, 100).latest() == Written(total_bytes=0, tail=b"")
    os.close(fd)


def test_an_answer_is_there_once_it_is_whole() -> None:
    request = TailsRequest()
    assert request.read() is None
    os.pwrite(request.fd, b"half", 0)
    assert request.read() is None
    stdout, stderr = Written(total_bytes=10**12, tail=b"\x00\xff" * (TAIL_BYTES // 2)), Written(total_bytes=0, tail=b"")
    answer(request.fd, stdout, stderr)
    assert request.read() == {"stdout": stdout, "stderr": stderr}
    request.close()


def test_an_answered_request_cannot_be_answered_again() -> None:
    request = TailsRequest()
    nothing = Written(total_bytes=0, tail=b"")
    answer(request.fd, nothing, nothing)
    with pytest.raises(PermissionError):
        answer(request.fd, nothing, nothing)
    request.close()
