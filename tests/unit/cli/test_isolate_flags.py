"""Flags of `isolate` and `run_isolated`, however scripts write them."""

import pytest

from dist_test.cli.isolate_flags import Flag, with_two_dashes

FLAGS = {
    "I": Flag("--isolate-server", 1),
    "isolate-server": Flag("--isolate-server", 1),
    "quiet": Flag("--quiet", 0),
    "f": Flag("--file", 2),
    "extra-variable": Flag("--extra-variable", 1),
    "command": Flag("--command", 1),
}


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("-isolate-server=URL x", "--isolate-server=URL x"),
        ("--isolate-server URL x", "--isolate-server URL x"),
        ("-isolate-server URL", "--isolate-server URL"),
        ("-I URL", "--isolate-server URL"),
        ("-I=URL", "--isolate-server=URL"),
        ("-quiet x", "--quiet x"),
        ("-f HASH -DEST x", "--file HASH -DEST x"),
        ("-command -l", "--command -l"),
        ("-extra-variable K=V x", "--extra-variable=K=V x"),
        ("--extra-variable K V x", "--extra-variable=K=V x"),
        ("--extra-variable=K V", "--extra-variable=K=V"),
        ("--extra-variable K=V=W", "--extra-variable=K=V=W"),
        ("--extra-variable", "--extra-variable="),
        ("-quiet -- -quiet", "--quiet -- -quiet"),
        ("-isolat=x", "--isolat=x"),
        ("-x", "-x"),
        ("-", "-"),
    ],
)
def test_one_dash_or_two_and_an_equals_sign_or_a_space(written: str, taken: str) -> None:
    assert with_two_dashes(written.split(), FLAGS, set()) == taken.split()


def test_python_programs_take_values_in_the_word_of_a_short_flag() -> None:
    assert with_two_dashes(["-IURL", "-nonsense"], FLAGS, {"I"}) == ["-IURL", "--nonsense"]
