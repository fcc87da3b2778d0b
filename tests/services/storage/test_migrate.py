"""Migrations: twice, from two hosts at once, back and forth, and which programs a schema serves."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from dist_test.errors import DatabaseUnavailable, SchemaMismatch
from dist_test.local.daemons import MariaDb
from dist_test.storage import schema
from dist_test.storage.database import Database, serves_since
from dist_test.storage.migrate import MIGRATIONS, migrate

from ..conftest import create_database, mysql_settings

NEXT = '''
"""What the release after this one might do."""

from alembic import op

from dist_test.storage.migrations.serving import serve, withdraw

revision = "9001"
down_revision = "{revision}"


def upgrade() -> None:
    op.execute("CREATE TABLE IF NOT EXISTS novelties (id INT PRIMARY KEY)")
    serve(revision, since="{since}")


def downgrade() -> None:
    withdraw(revision)
    op.execute("DROP TABLE IF EXISTS novelties")
'''


@pytest.fixture
def empty(mariadb: MariaDb) -> Iterator[Database]:
    """A database without a table."""
    create_database(mariadb, "dist_test_empty")
    database = Database(mysql_settings(mariadb, "dist_test_empty"))
    yield database
    database.close()


def next_release(directory: Path, *, since: str) -> Path:
    """The migrations of a release with one more than ours, which serves programs since an earlier one."""
    scripts = directory / "migrations"
    shutil.copytree(MIGRATIONS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions/9001_novelties.py").write_text(NEXT.format(revision=schema.REVISION, since=since))
    return scripts


def revisions() -> list[str]:
    """All revisions of this release, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return [script.revision for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions()))]


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


def test_revisions_sort_in_their_order_and_the_newest_is_what_programs_need() -> None:
    assert revisions() == sorted(revisions())
    assert revisions()[-1] == schema.REVISION


def test_every_revision_can_be_left_for_the_one_before_and_reached_again(empty: Database) -> None:
    shapes = {}
    for name in revisions():
        migrate(empty, to=name)
        shapes[name] = _shape(empty)
    for name in reversed(revisions()):
        migrate(empty, to=name)
        assert _shape(empty) == shapes[name]
    assert migrate(empty) == (revisions()[0], schema.REVISION)
    assert _shape(empty) == shapes[schema.REVISION]


def _shape(database: Database) -> dict[str, list[str]]:
    inspector = inspect(database.engine)
    return {
        table: sorted(str(column["name"]) for column in inspector.get_columns(table))
        for table in inspector.get_table_names()
    }


@pytest.mark.parametrize("name", revisions()[1:])
def test_every_revision_after_the_first_says_whom_it_serves(name: str, empty: Database) -> None:
    migrate(empty, to=name)
    since = empty.run(lambda connection: serves_since(connection, name))
    assert since in revisions()[: revisions().index(name) + 1]


@pytest.mark.parametrize("name", ["base", "0000", "8"])
def test_nobody_goes_to_a_revision_that_is_not_there_or_below_the_first(name: str, empty: Database) -> None:
    migrate(empty)
    with pytest.raises(SchemaMismatch, match=f"there is no revision {name}; this release knows 0001, "):
        migrate(empty, to=name)
    empty.check_schema()


def test_programs_of_the_release_before_run_on_a_schema_that_serves_them(empty: Database, tmp_path: Path) -> None:
    migrate(empty, scripts=next_release(tmp_path, since=schema.REVISION))
    empty.check_schema()
    empty.check_schema(needs="9001")
    assert migrate(empty) == ("9001", "9001"), "the older release's own migrate leaves it alone"


def test_programs_that_a_newer_schema_does_not_serve_name_the_way_out(empty: Database, tmp_path: Path) -> None:
    migrate(empty, scripts=next_release(tmp_path, since="9001"))
    empty.check_schema(needs="9001")
    with pytest.raises(SchemaMismatch, match=r"is 9001, this version .* upgrade dist_test on this host"):
        empty.check_schema()
    with pytest.raises(
        SchemaMismatch, match=rf"upgrade dist_test .*or .*: dist-test-master migrate --to {schema.REVISION}"
    ):
        migrate(empty)


def test_the_release_that_made_a_schema_takes_it_back(empty: Database, tmp_path: Path) -> None:
    scripts = next_release(tmp_path, since="9001")
    migrate(empty, scripts=scripts)
    assert migrate(empty, to=schema.REVISION, scripts=scripts) == ("9001", schema.REVISION)
    empty.check_schema()
    with pytest.raises(SchemaMismatch, match=r"this version .* needs 9001; run: dist-test-master migrate"):
        empty.check_schema(needs="9001")


def test_a_newer_schema_that_says_nothing_serves_nobody_else(empty: Database) -> None:
    migrate(empty)
    with empty.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match=r"is 9999, this version .* upgrade dist_test on this host"):
        empty.check_schema()


def test_a_service_refuses_a_database_without_schema_and_says_what_to_run(empty: Database) -> None:
    with pytest.raises(SchemaMismatch, match=r"is not there yet.*run: dist-test-master migrate"):
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
    settings = replace(mysql_settings(mariadb, "dist_test_empty"), port=free_port)
    database = Database(settings, sleep=lambda _: None)
    with pytest.raises(DatabaseUnavailable, match=rf"dist_test_empty on 127\.0\.0\.1:{free_port} did not do its work"):
        database.check_schema()
