"""Statements over many rows at once."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Insert, Table, literal_column
from sqlalchemy.dialects.mysql import insert

# Literal: pymysql's executemany fills in parameters only between the parentheses of VALUES.
UTC_NOW: ColumnElement[Any] = literal_column("UTC_TIMESTAMP(6)")
CHUNK = 1000  # rows in one statement: past this a statement gets no cheaper by the row (performance.md)
Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """The items in slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def pages(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """As chunks, of what is made one by one and may be more than fits into memory."""
    iterator = iter(items)
    while page := list(islice(iterator, size)):
        yield page


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns."""
    for chunk in chunks(rows):
        # pymysql makes one multi-row INSERT of an executemany.
        connection.execute(_insertion(table), list(chunk))


def update_rows(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    now: str | None = None,
) -> None:
    """Set columns of rows named by their whole primary key, each to values of its own, and column `now` to the time.

    MySQL has no such UPDATE, but INSERT … ON DUPLICATE KEY UPDATE does it in one statement. The caller has locked
    the rows: a key that is not there would become a row of defaults.
    """
    for chunk in chunks(rows):
        connection.execute(_upsert(table, tuple(chunk[0]), now), list(chunk))


# SQLAlchemy spends more on making a statement than MySQL does on running it: the same ones are used again.
@functools.cache
def _insertion(table: Table) -> Insert:
    return table.insert()


@functools.cache
def _upsert(table: Table, names: tuple[str, ...], now: str | None) -> Insert:
    keys = {column.name for column in table.primary_key}
    statement = insert(table)
    changed = {name: statement.inserted[name] for name in names if name not in keys}
    return statement.on_duplicate_key_update(changed | ({now: UTC_NOW} if now else {}))
