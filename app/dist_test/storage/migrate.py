"""Bring a database's schema up to this version."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from dist_test.errors import DatabaseUnavailable
from dist_test.storage.database import Database, revision

LOCK_WAIT_SECONDS = 300
STATEMENT_SECONDS = 4 * 3600  # changing a table of a hundred million rows takes its time


def migrate(database: Database) -> tuple[str | None, str | None]:
    """Apply the missing migrations; give back the schema's revision before and after.

    Safe to run twice and from several hosts at once: a named lock lets one work, and the others find nothing to do.
    Raises DatabaseUnavailable, also when another host has been migrating for five minutes.
    """
    patient = Database(database.settings, pool_size=1, answer_seconds=STATEMENT_SECONDS)
    try:
        with patient.engine.connect() as connection:
            # Lock names are the server's, not the database's: two clusters may share a server.
            lock = f"dist_test.migrate.{database.settings.database}"[:64]
            _lock(connection, lock)
            try:
                return _upgrade(connection)
            finally:
                connection.execute(text("DO RELEASE_LOCK(:name)"), {"name": lock})
    except SQLAlchemyError as exc:
        raise DatabaseUnavailable(f"the migration of {database.settings.database} failed: {exc}") from exc
    finally:
        patient.close()


def _lock(connection: Connection, name: str) -> None:
    got = connection.execute(
        text("SELECT GET_LOCK(:name, :seconds)"), {"name": name, "seconds": LOCK_WAIT_SECONDS}
    ).scalar()
    if got != 1:
        raise DatabaseUnavailable(
            f"another host has held the lock {name} for {LOCK_WAIT_SECONDS} s; see SHOW PROCESSLIST on the server"
        )


def _upgrade(connection: Connection) -> tuple[str | None, str | None]:
    before = revision(connection)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
    return before, revision(connection)
