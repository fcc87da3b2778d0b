"""Where the log of an attempt goes on, and its characters."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_test.master.live import LogPart, place_in_stored
from dist_test.model.cut_log import cut_line


def part(data: bytes, **fields: Any) -> LogPart:
    values: dict[str, Any] = {
        "attempt": None,
        "latest_attempt": 0,
        "stream": "stdout",
        "offset": 100,
        "left_out_bytes": 0,
        "is_final": False,
        "is_stored": False,
    }
    return LogPart(data=data, **values | fields)


@given(text=st.text(max_size=60), cuts=st.lists(st.integers(0, 240), max_size=8))
def test_pieces_at_characters_make_the_whole_text(text: str, cuts: list[int]) -> None:
    content = text.encode()
    offset, said = 0, ""
    for end in [*sorted(cut for cut in cuts if cut < len(content)), len(content)]:
        if end < offset:
            continue
        piece = part(content[offset:end], offset=offset, is_final=end == len(content)).at_characters()
        said += piece.text
        offset = piece.next_offset
    assert said == text


@given(data=st.binary(max_size=50), left_out=st.integers(0, 5), is_final=st.booleans())
def test_offsets_add_up_whatever_the_bytes(data: bytes, left_out: int, is_final: bool) -> None:
    whole = part(data, left_out_bytes=left_out, is_final=is_final)
    shown = whole.at_characters()
    assert shown.offset - shown.left_out_bytes == whole.offset - whole.left_out_bytes
    assert whole.next_offset - 3 <= shown.next_offset <= whole.next_offset
    assert not is_final or shown.next_offset == whole.next_offset


def test_a_character_that_was_cut_at_the_begin_of_a_tail_counts_as_left_out() -> None:
    shown = part("€uro".encode()[1:], left_out_bytes=7).at_characters()
    assert (shown.text, shown.offset, shown.left_out_bytes) == ("uro", 102, 9)


@pytest.mark.parametrize("offset", [0, 10, 499, 500, 501, 5000, 9500, 9501, 10_000])
def test_a_cut_log_goes_on_at_the_bytes_that_the_command_wrote(offset: int) -> None:
    output = b"".join(b"%04d\n" % number for number in range(2000))
    stored = output[:500] + cut_line(9000, 1000) + output[-500:]
    place = place_in_stored(offset, stored_bytes=len(stored), written_bytes=len(output))
    assert place.offset >= offset
    assert place.offset == offset or place.offset == 9500
    got = stored[place.position : place.position + place.size_bytes]
    assert got == output[place.offset : place.offset + place.size_bytes]
    assert got or offset == 10_000


@pytest.mark.parametrize(("offset", "position"), [(0, 0), (70, 70), (100, 100), (10**9, 0)])
def test_a_log_whose_writer_counted_nothing_is_read_as_it_is_stored(offset: int, position: int) -> None:
    place = place_in_stored(offset, stored_bytes=100, written_bytes=None)
    assert (place.position, place.offset, place.size_bytes) == (position, offset, 100 - position)
