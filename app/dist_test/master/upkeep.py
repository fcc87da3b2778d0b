"""The command `migrate`: the schema and the rights of the programs' accounts, set right or only looked at."""

from collections.abc import Callable, Sequence
from contextlib import closing

from sqlalchemy import Connection

from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.grants import Account, grant, pending
from dist_test.storage.migrate import carry_out, plan, sole_migrator

PENDING = 3  # the exit status of a check that found something to do

Say = Callable[[str], None]


def run_migrate(settings: MasterSettings, to: str | None, accounts: Sequence[Account], say: Say) -> int:
    """Migrate to the revision `to` (None: the newest), then set the accounts' rights; print each change.

    Raises SchemaMismatch, ConfigurationError, DatabaseUnavailable, DatabaseRefused.
    """
    with closing(Database(settings.mysql, pool_size=1)) as database, sole_migrator(database) as connection:
        way = plan(connection, to=to)
        carry_out(connection, way)
        if not way.is_done:
            say(f"{way}")
        changes = _set_rights(connection, accounts, is_newer=way.is_newer)
    for change in changes:
        say(change)
    if way.is_done and not changes:
        say("unchanged")
    return 0


def run_check(settings: MasterSettings, to: str | None, accounts: Sequence[Account], say: Say) -> int:
    """Print what run_migrate would do now, and change nothing; exit status 3 when there is something.

    Rights on tables that are not there yet are not named. Raises as run_migrate does.
    """

    def look(connection: Connection) -> list[str]:
        way = plan(connection, to=to)
        changes = pending(connection, accounts, revokes=not way.is_newer) if accounts else []
        return changes if way.is_done else [f"{way}", *changes]

    with closing(Database(settings.mysql, pool_size=1)) as database:
        found = database.run(look)
    for line in found:
        say(f"pending: {line}")
    if not found:
        say("unchanged")
    return PENDING if found else 0


def _set_rights(connection: Connection, accounts: Sequence[Account], *, is_newer: bool) -> list[str]:
    # What a newer release has granted is not ours to take.
    return grant(connection, accounts, revokes=not is_newer) if accounts else []
