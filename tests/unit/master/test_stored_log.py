"""Logs read by pieces and searched."""

import io
from collections.abc import Iterator

import pytest

from dist_test.master.stored_log import CHUNK_BYTES, MAX_MATCH_BYTES, MAX_MATCHES, Match, chunks, read_piece, search

from ...fakes.results import FakeResults

LOG = b"first\nsecond line\nthird\n"


def test_the_end_comes_in_whole_lines() -> None:
    piece = read_piece(FakeResults({"log": LOG}), "log", end=len(LOG), size_bytes=10)

    assert (piece.start, piece.data, piece.end) == (18, b"third\n", len(LOG))


def test_pieces_upwards_are_the_whole_log() -> None:
    results, end, found = FakeResults({"log": LOG}), len(LOG), b""
    while end:
        piece = read_piece(results, "log", end=end, size_bytes=15)
        found, end = piece.data + found, piece.start

    assert found == LOG


def test_a_line_longer_than_a_piece_is_cut() -> None:
    piece = read_piece(FakeResults({"log": b"x" * 100 + b"\n"}), "log", end=101, size_bytes=10)

    assert (piece.start, len(piece.data)) == (91, 10)


def test_an_empty_log_is_not_even_asked_for() -> None:
    assert read_piece(FakeResults({}), "log", end=0).data == b""


def lines(content: list[bytes], wanted: str) -> list[Match]:
    return list(search(content, wanted).lines)


def test_lines_are_found_with_their_numbers_and_places() -> None:
    assert lines([LOG], "LINE") == [Match(number=2, offset=6, data=b"second line")]
    assert lines([LOG], "d") == [
        Match(number=2, offset=6, data=b"second line"),
        Match(number=3, offset=18, data=b"third"),
    ]
    assert lines([LOG], "fourth") == []


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_how_the_log_arrives_does_not_matter(size: int) -> None:
    content = b"a\n" * 50 + b"needle here\n" + b"b\n" * 3 + b"a last needle"
    arriving = [content[start : start + size] for start in range(0, len(content), size)]

    assert [(match.number, match.offset) for match in lines(arriving, "needle")] == [(51, 100), (55, 118)]


def test_letters_beyond_ascii_are_found_as_they_are_written() -> None:
    assert len(lines(["Stra\u00dfe\n".encode()], "STRA\u00dfE")) == 1


def test_a_long_line_shows_what_is_around_the_match() -> None:
    (match,) = lines([b"x" * 10_000 + b"needle" + b"y" * 10_000 + b"\n"], "needle")

    assert len(match.data) == MAX_MATCH_BYTES
    assert b"needle" in match.data
    assert match.offset == 0


def test_a_search_stops_at_so_many_lines() -> None:
    found = search([b"hit\n" * (MAX_MATCHES + 1)], "hit")

    assert (len(found.lines), found.is_whole) == (MAX_MATCHES, False)


def test_a_search_stops_in_time() -> None:
    times = iter((0.0, 5.0, 11.0))
    arriving: Iterator[bytes] = iter((b"hit\n", b"miss\n", b"hit\n"))

    found = search(arriving, "hit", clock=lambda: next(times))

    assert [match.number for match in found.lines] == [1]
    assert not found.is_whole


def test_a_line_without_end_does_not_pile_up() -> None:
    found = search((b"x" * CHUNK_BYTES for _ in range(3)), "y")

    assert found.is_whole
    assert found.read_bytes == 3 * CHUNK_BYTES


def test_a_stream_is_closed_after_its_last_chunk() -> None:
    stream = io.BytesIO(b"abc")

    assert list(chunks(stream)) == [b"abc"]
    assert stream.closed
