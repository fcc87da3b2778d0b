"""What the pages of tests work out from runs."""

from datetime import UTC, datetime, timedelta

import pytest

from dist_test.master.pages.history import per_day, share_of

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([7.0], 0.9, 7.0), ([1.0, 2.0], 0.5, 1.0), ([float(n) for n in range(1, 11)], 0.9, 9.0)],
    ids=["none", "one", "two", "ten"],
)
def test_a_share_of_values_lies_at_or_below_one_of_them(
    values: list[float], share: float, expected: float | None
) -> None:
    assert share_of(values, share) == expected


def test_moments_are_counted_by_day_the_oldest_first() -> None:
    moments = [NOW, NOW - timedelta(hours=1), NOW - timedelta(days=2, hours=1), NOW - timedelta(days=40)]

    assert per_day(moments, now=NOW, days=3, most=3) == [2, 0, 2]


def test_a_moment_ahead_of_our_clock_is_of_today() -> None:
    assert per_day([NOW + timedelta(seconds=5)], now=NOW, days=3, most=3) == [0, 0, 1]
