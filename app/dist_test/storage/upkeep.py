"""What `dist-test-master migrate` does: the schema, then the rights of the programs' accounts on it."""

from collections.abc import Sequence

from sqlalchemy import Connection

from dist_test.storage.database import Database
from dist_test.storage.grants import Account, grant, pending
from dist_test.storage.migrate import carry_out, plan, sole_migrator

# Both leave alone what a newer release has granted: it is not ours to take.


def bring_up(database: Database, *, to: str | None, accounts: Sequence[Account]) -> list[str]:
    """Go to the revision `to` (None: the newest) and set the accounts' rights; give back each change in a line.

    Raises SchemaMismatch, ConfigurationError, DatabaseUnavailable, DatabaseRefused.
    """
    with sole_migrator(database) as connection:
        way = plan(connection, to=to)
        carry_out(connection, way)
        changes = grant(connection, accounts, revokes=not way.is_newer) if accounts else []
    return changes if way.is_done else [f"{way}", *changes]


def look(database: Database, *, to: str | None, accounts: Sequence[Account]) -> list[str]:
    """What bring_up() would change now; rights on tables that are not there yet are not named. Raises as it does."""

    def read(connection: Connection) -> list[str]:
        way = plan(connection, to=to)
        changes = pending(connection, accounts, revokes=not way.is_newer) if accounts else []
        return changes if way.is_done else [f"{way}", *changes]

    return database.run(read)
