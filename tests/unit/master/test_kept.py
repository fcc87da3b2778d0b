"""What is kept for a moment."""

import threading

import pytest

from dist_test.master.kept import MOST, Kept


class Bench:
    """Values that count how often they were made, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.made = 0
        self.kept: Kept[int] = Kept(seconds=1, stale_seconds=10, clock=lambda: self.now)

    def make(self) -> int:
        self.made += 1
        return self.made

    def get(self, key: str = "a") -> int:
        return self.kept.get(key, self.make)


def test_a_value_is_made_anew_once_it_is_too_old() -> None:
    bench = Bench()

    assert [bench.get(), bench.get(), bench.get("b")] == [1, 1, 2]
    bench.now = 1.0
    assert [bench.get(), bench.get()] == [3, 3]


def test_a_value_that_was_forgotten_is_made_anew() -> None:
    bench = Bench()
    bench.get()

    bench.kept.forget("a")

    assert bench.get() == 2


def test_the_old_value_is_given_while_another_thread_makes_a_new_one() -> None:
    bench = Bench()
    bench.get()
    bench.now = 5.0
    is_making, may_end = threading.Event(), threading.Event()

    def make_slowly() -> int:
        is_making.set()
        assert may_end.wait(10)
        return 99

    maker = threading.Thread(target=bench.kept.get, args=("a", make_slowly))
    maker.start()
    assert is_making.wait(10)
    seen_meanwhile = bench.get()
    may_end.set()
    maker.join()

    assert (seen_meanwhile, bench.get()) == (1, 99)


def test_an_error_is_raised_and_not_kept() -> None:
    bench = Bench()

    def fail() -> int:
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        bench.kept.get("a", fail)
    assert bench.get() == 1


def test_the_number_of_values_is_bounded() -> None:
    bench = Bench()

    for number in range(MOST + 1):
        bench.get(str(number))

    assert bench.get("0") == MOST + 2, "the oldest was dropped"
    assert bench.get(str(MOST)) == MOST + 1
