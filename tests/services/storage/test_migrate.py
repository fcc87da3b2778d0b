"""Migrations: twice, from two hosts at once, and services that refuse another schema."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from dist_test.errors import DatabaseUnavailable, SchemaMismatch
from dist_test.local.daemons import MariaDb
from dist_test.storage import schema
from dist_test.storage.database import Database
from dist_test.storage.migrate import migrate

from ..conftest import create_database, mysql_settings


@pytest.fixture
def empty(mariadb: MariaDb) -> Iterator[Database]:
    """A database without a table."""
    create_database(mariadb, "dist_test_empty")
    database = Database(mysql_settings(mariadb, "dist_test_empty"))
    yield database
    database.close()


def test_migrating_twice_does_nothing_the_second_time(empty: Database) -> None:
    assert migrate(empty) == (None, schema.REVISION)
    assert migrate(empty) == (schema.REVISION, schema.REVISION)
    empty.check_schema()


def test_two_hosts_may_migrate_at_once(empty: Database) -> None:
    other = Database(empty.settings)
    with ThreadPoolExecutor(2) as pool:
        befores = {before for before, _ in pool.map(migrate, (empty, other))}
    other.close()
    assert befores == {None, schema.REVISION}


def test_a_migration_that_was_cut_off_is_done_again(empty: Database) -> None:
    migrate(empty)
    with empty.engine.begin() as connection:
        connection.execute(text("DROP TABLE slaves"))
        connection.execute(text("DELETE FROM alembic_version"))
    migrate(empty)
    empty.check_schema()


def test_a_service_refuses_a_database_without_schema_and_says_what_to_run(empty: Database) -> None:
    with pytest.raises(SchemaMismatch, match=r"is not there yet.*run: dist-test-master migrate"):
        empty.check_schema()


def test_a_service_refuses_a_newer_schema(empty: Database) -> None:
    migrate(empty)
    with empty.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match=r"is 9999, this version .* upgrade dist_test on this host"):
        empty.check_schema()


def test_the_queries_know_exactly_the_columns_that_there_are(migrated_database: Database) -> None:
    with migrated_database.engine.connect() as connection:
        rows = connection.execute(
            text("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()")
        )
        there = {tuple(row) for row in rows} - {("alembic_version", "version_num")}
    known = {(table.name, column.name) for table in schema.metadata.tables.values() for column in table.columns}
    assert there == known


def test_a_database_that_is_away_is_reported_with_its_address(mariadb: MariaDb, free_port: int) -> None:
    from dataclasses import replace

    settings = replace(mysql_settings(mariadb, "dist_test_empty"), port=free_port)
    database = Database(settings, sleep=lambda _: None)
    with pytest.raises(DatabaseUnavailable, match=rf"dist_test_empty on 127\.0\.0\.1:{free_port} did not do its work"):
        database.check_schema()
