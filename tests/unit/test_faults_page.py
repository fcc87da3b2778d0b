"""The page of faults names tests that exist, at least one for each row."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/faults.md").read_text()


def rows() -> list[str]:
    """The names of all rows of the page's tables."""
    return re.findall(r"^\| \[(\w+)\]\(#\w+\) \|", PAGE, re.MULTILINE)


def listed_for(row: str) -> list[str]:
    """The tests that are listed for a row, as pytest names them."""
    section = re.search(rf"^### {row}\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^- `(\S+::\w+)`", section[1], re.MULTILINE) if section else []


@cache
def functions_of(path: str) -> frozenset[str]:
    """The functions of a file of tests; none when it is not there."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef))


def missing(tests: list[str]) -> Iterator[str]:
    """The tests that do not exist."""
    for test in tests:
        path, _, name = test.partition("::")
        if name not in functions_of(path):
            yield test


def test_each_line_of_the_tables_is_a_row_with_a_name_of_its_own() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| |", "| ---"))]
    assert len(lines) == len(rows()) == len(set(rows())) > 20
    assert all(f"| [{row}](#{row.lower()}) |" in PAGE for row in rows())


def test_tests_are_listed_for_rows_that_there_are() -> None:
    assert re.findall(r"^### (.*)$", PAGE, re.MULTILINE) == rows()


@pytest.mark.parametrize("row", rows())
def test_each_row_has_tests_that_exist(row: str) -> None:
    assert listed_for(row) != []
    assert list(missing(listed_for(row))) == []


def test_every_test_that_is_named_anywhere_on_the_page_is_checked() -> None:
    assert len(re.findall(r"test_\w+\.py::", PAGE)) == sum(len(listed_for(row)) for row in rows())


def test_a_test_that_was_renamed_is_noticed() -> None:
    there = "tests/unit/test_faults_page.py::test_a_test_that_was_renamed_is_noticed"
    gone = [f"{there}_no_more", "tests/unit/no_such_file.py::test_x"]
    assert list(missing([there, *gone])) == gone
