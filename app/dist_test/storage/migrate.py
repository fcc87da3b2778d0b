"""Bring a database's schema up to this release, or back to an earlier revision."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from dist_test.errors import DatabaseUnavailable, SchemaMismatch
from dist_test.storage.database import Database, revision, serves_since

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_WAIT_SECONDS = 300
STATEMENT_SECONDS = 4 * 3600  # changing a table of a hundred million rows takes its time


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A way from one revision to another; `before` is None for a database without a table.

    `is_newer`: a newer release has made the schema, and it stays as it is.
    """

    before: str | None
    after: str
    is_newer: bool = False

    @property
    def is_done(self) -> bool:
        return self.before == self.after

    def __str__(self) -> str:
        return f"schema: from {self.before or 'nothing'} to {self.after}"


def migrate(database: Database, *, to: str | None = None, scripts: Path = MIGRATIONS) -> tuple[str | None, str]:
    """Apply the missing migrations; give back the schema's revision before and after.

    Safe to run twice and from several hosts at once: a named lock lets one work, and the others find nothing to do.
    Raises DatabaseUnavailable, also when another host has been migrating for five minutes, and as plan() does.
    """
    with sole_migrator(database) as connection:
        way = plan(connection, to=to, scripts=scripts)
        carry_out(connection, way, scripts=scripts)
    return way.before, way.after


def plan(connection: Connection, *, to: str | None = None, scripts: Path = MIGRATIONS) -> Plan:
    """The way from the schema as it is to the revision `to`, which may be an earlier one; None: this release's newest.

    A newer schema that serves this release's programs is left as it is. Raises SchemaMismatch when there is no way.
    """
    known, found = _revisions(scripts), revision(connection)
    if to is not None and to not in known:
        raise SchemaMismatch(f"there is no revision {to}; this release knows {', '.join(known)}")
    if found is None or found in known:
        return Plan(before=found, after=to or known[-1])
    since = serves_since(connection, found)
    if to is None and since is not None and since <= known[-1]:
        return Plan(before=found, after=found, is_newer=True)
    raise SchemaMismatch(
        f"the schema is {found}, and this release knows only {known[0]} to {known[-1]};"
        f" upgrade dist_test on this host, or run the newer release's: dist-test-master migrate --to {to or known[-1]}"
    )


def carry_out(connection: Connection, way: Plan, *, scripts: Path = MIGRATIONS) -> None:
    """Go the way that plan() found. The connection is the sole migrator's."""
    if way.is_done:
        return
    config = _config(scripts)
    config.attributes["connection"] = connection
    goes_back = way.before is not None and way.after < way.before
    (command.downgrade if goes_back else command.upgrade)(config, way.after)
    connection.commit()


@contextmanager
def sole_migrator(database: Database) -> Iterator[Connection]:
    """A connection with all the time that a migration may take; nobody else has one of this database meanwhile."""
    patient = Database(database.settings, pool_size=1, answer_seconds=STATEMENT_SECONDS)
    try:
        with patient.engine.connect() as connection:
            # Lock names are the server's, not the database's: two clusters may share a server.
            lock = f"dist_test.migrate.{database.settings.database}"[:64]
            _lock(connection, lock)
            try:
                yield connection
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


def _revisions(scripts: Path) -> list[str]:
    """The names of all revisions, oldest first. They are made to sort in that order."""
    return sorted(script.revision for script in ScriptDirectory.from_config(_config(scripts)).walk_revisions())


def _config(scripts: Path) -> Config:
    config = Config()
    # Alembic reads % as configparser does.
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    return config
