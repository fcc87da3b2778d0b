"""The pure parts of the pages of jobs."""

import pytest
from werkzeug.exceptions import BadRequest

from dist_test.master.pages.artifacts import safe_filename
from dist_test.master.pages.listing import read_cursor, write_cursor
from dist_test.master.pages.task import command_for
from dist_test.model.task import Task
from dist_test.storage.attempt_lists import AttemptSort, Place


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        (AttemptSort.TASK, None),
        (AttemptSort.LONGEST, 0.1 + 0.2),
        (AttemptSort.LONGEST, -1.0),
        (AttemptSort.LONGEST, 5e-05),
        (AttemptSort.SHORTEST, 1e18),
        (AttemptSort.NEWEST, 0),
        (AttemptSort.OLDEST, 253402214400000000),
        (AttemptSort.OUTCOME, 6),
    ],
)
def test_a_cursor_says_exactly_where(sort: AttemptSort, value: float | None) -> None:
    place = Place(value, 99_999, 12)

    assert read_cursor(write_cursor(place), sort) == place


@pytest.mark.parametrize(
    ("sort", "text"),
    [
        *((AttemptSort.TASK, text) for text in ("", "x", "1", "1.", "1.2.3", "5_1.2", "1234567890.0", "\u0661.0")),
        *((AttemptSort.LONGEST, text) for text in ("1.2", "nan_1.2", "inf_1.2", "_1.2", "1e_1.2", "1;2_1.2")),
        *((AttemptSort.LONGEST, text) for text in ("1e+999_1.2", "-1e+999_1.2")),
    ],
)
def test_what_is_no_cursor_is_named(sort: AttemptSort, text: str) -> None:
    with pytest.raises(BadRequest, match="after is"):
        read_cursor(text, sort)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("build/logs/TestA.xml", "TestA.xml"),
        ("..", "artifact"),
        ("", "artifact"),
        ("dir/", "artifact"),
        ("a\\b\\c.txt", "c.txt"),
        ('a"b\r\nSet-Cookie: x', "a_b_Set-Cookie_x"),
        ("-rf .bashrc", "rf_.bashrc"),
        ("\u202egnp.exe", "_gnp.exe"),
        ("x" * 500 + ".txt", "x" * 116 + ".txt"),
    ],
)
def test_a_members_name_becomes_one_for_a_disk(name: str, safe: str) -> None:
    assert safe_filename(name) == safe


def test_the_command_is_ready_for_a_shell() -> None:
    task = Task(isolate_hash="a" * 40, description="t", env=(("A", "it's $HOME"), ("B", "")))

    assert command_for(task, None) == (
        f"dist-test run-isolated --hash {'a' * 40} --leak-temp-dir --env 'A=it'\"'\"'s $HOME' --env B="
    )
    assert command_for(task, "http://isolate:4242").startswith("ISOLATE_SERVER=http://isolate:4242 dist-test ")
