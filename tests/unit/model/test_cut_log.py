"""Where a stored log was cut, from its size alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_test.model.cut_log import Cut, cut_line, find_cut


@given(limit=st.integers(0, 2**30), dropped=st.integers(101, 2**40))
def test_the_sizes_of_a_cut_log_tell_where_it_was_cut(limit: int, dropped: int) -> None:
    line_bytes = len(cut_line(dropped, limit))
    cut = find_cut(stored_bytes=limit + line_bytes, written_bytes=limit + dropped)
    assert cut is not None
    # Where one digit more or less makes the same size, a byte is in doubt.
    assert abs(cut.line_bytes - line_bytes) <= 2
    assert cut.head_bytes + cut.tail_bytes + cut.dropped_bytes == limit + dropped


def test_the_usual_limit_is_told_exactly() -> None:
    line_bytes = len(cut_line(10**9 - 20 * 2**20, 20 * 2**20))
    assert find_cut(stored_bytes=20 * 2**20 + line_bytes, written_bytes=10**9) == Cut(
        head_bytes=10 * 2**20,
        line_bytes=line_bytes,
        dropped_bytes=10**9 - 20 * 2**20,
        tail_bytes=10 * 2**20,
    )


@pytest.mark.parametrize(("stored", "written"), [(0, 0), (50_000, 50_000), (50_100, 50_000)])
def test_a_log_that_is_all_there_was_not_cut(stored: int, written: int) -> None:
    assert find_cut(stored_bytes=stored, written_bytes=written) is None
