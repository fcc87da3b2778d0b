"""What a page shows of a log, however long it is."""

import pytest

from dist_test.master.log_excerpt import HEAD_BYTES, TAIL_BYTES, read_excerpt

from ...fakes.results import FakeResults


@pytest.mark.parametrize("size", [0, 1, HEAD_BYTES, HEAD_BYTES + TAIL_BYTES])
def test_a_log_that_fits_is_shown_whole(size: int) -> None:
    excerpt = read_excerpt(FakeResults({"log": b"x" * size}), "log", size)

    assert (len(excerpt.head), excerpt.tail, excerpt.left_out_bytes) == (size, "", 0)


def test_of_a_longer_log_head_and_tail_are_shown() -> None:
    log = b"a" * HEAD_BYTES + b"b" * 5_000_000 + b"c" * TAIL_BYTES

    excerpt = read_excerpt(FakeResults({"log": log}), "log", len(log))

    assert excerpt.head == "a" * HEAD_BYTES
    assert excerpt.tail == "c" * TAIL_BYTES
    assert excerpt.left_out_bytes == 5_000_000


def test_a_log_one_byte_too_long_leaves_one_byte_out() -> None:
    log = b"x" * (HEAD_BYTES + TAIL_BYTES + 1)

    assert read_excerpt(FakeResults({"log": log}), "log", len(log)).left_out_bytes == 1


def test_bytes_that_are_no_text_are_shown_as_such() -> None:
    assert read_excerpt(FakeResults({"log": b"a\xff\0b"}), "log", 4).head == "a\ufffd\ufffdb"
