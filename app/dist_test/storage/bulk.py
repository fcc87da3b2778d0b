"""Statements over many rows at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.mysql import insert

CHUNK = 1000  # rows in one statement: past this a statement gets no cheaper by the row (performance.md)
Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int = CHUNK) -> Iterator[Sequence[Item]]:
    """The items in slices of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the same columns."""
    for chunk in chunks(rows):
        # pymysql makes one multi-row INSERT of an executemany.
        connection.execute(table.insert(), list(chunk))


def update_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of rows named by their whole primary key, each to values of its own.

    MySQL has no such UPDATE, but INSERT … ON DUPLICATE KEY UPDATE does it in one statement. The caller has locked
    the rows: a key that is not there would become a row of defaults.
    """
    keys = {column.name for column in table.primary_key}
    for chunk in chunks(rows):
        statement = insert(table)
        changed = {name: statement.inserted[name] for name in chunk[0] if name not in keys}
        connection.execute(statement.on_duplicate_key_update(changed), list(chunk))
