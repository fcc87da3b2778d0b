"""Give the programs' accounts exactly their rights, by comparing with those that the server has written down.

What an account has is read from MySQL's own tables: SHOW GRANTS for somebody else, and information_schema, take a right
on the whole of `mysql`, password hashes included. These three tables hold none.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from dist_test.errors import ConfigurationError, DatabaseRefused
from dist_test.storage.database import MISSING_RIGHTS, error_code
from dist_test.storage.rights import RIGHTS, Right, Rights, quoted, statements

NO_SUCH_ACCOUNT = (1133, 1410)  # MariaDB's, and MySQL's: it takes GRANT for an attempt to make it
GRANT_TABLES = ("db", "tables_priv", "columns_priv")
_NAME = re.compile(r"[A-Za-z0-9_.:/%-]{1,80}")
# The privileges whose name in the tables is not that of SQL.
_SQL_NAMES = {"GRANT": "GRANT OPTION", "DELETE VERSIONING ROWS": "DELETE HISTORY"}


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account of the database server, and the program that logs in with it: master, slave, autoscaler or isolate."""

    program: str
    user: str
    host: str

    def __post_init__(self) -> None:
        # Names of accounts cannot be bound as parameters.
        for name in (self.user, self.host):
            if not _NAME.fullmatch(name):
                raise ConfigurationError(f"{name!r} is not a name for an account; use letters, digits and _ - . : / %")

    def __str__(self) -> str:
        return f"'{self.user}'@'{self.host}'"


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What an account has: on tables of this database, and on whole databases by name or pattern."""

    rights: Rights
    databases: tuple[Right, ...]


def pending(connection: Connection, accounts: Sequence[Account], *, revokes: bool = True) -> list[str]:
    """The statements that grant() would run now. Raises as it does."""
    found = []
    for account in _checked(connection, accounts):
        held, wanted = _held(connection, account), _wanted(connection, account)
        found += _grants(wanted - held.rights, account)
        found += _revokes(held, wanted, account) if revokes else []
    return found


def grant(connection: Connection, accounts: Sequence[Account], *, revokes: bool = True) -> list[str]:
    """Give each account what its program needs, and unless told otherwise take the rest; give back what was run.

    Only rights in this database are looked at: neither global ones nor roles, which the migrating account cannot see.
    Raises ConfigurationError for accounts that cannot be meant, and DatabaseRefused, with the way out.
    """
    connection.execute(_NO_NEW_ACCOUNTS)
    done: list[str] = []
    for account in _checked(connection, accounts):
        wanted = _wanted(connection, account)
        # First what is missing: the program may be running on rights to the whole database.
        done += _run(connection, _grants(wanted - _held(connection, account).rights, account), account)
        if revokes:
            done += _run(connection, _revokes(_held(connection, account), wanted, account), account)
            # Revoking from a table takes the same right from its columns.
            done += _run(connection, _grants(wanted - _held(connection, account).rights, account), account)
    return done


# A mistyped name must not become an account without a password. The comment is MariaDB's; MySQL needs nothing.
_NO_NEW_ACCOUNTS = text("SET SESSION sql_mode = CONCAT(@@sql_mode /*M! , ',NO_AUTO_CREATE_USER' */)")


def _checked(connection: Connection, accounts: Sequence[Account]) -> Sequence[Account]:
    own = _own_name(connection)
    for account in accounts:
        if f"{account.user}@{account.host}" == own:
            raise ConfigurationError(f"{account} is the account that migrates; give {account.program} another one")
    if len({(account.user, account.host) for account in accounts}) < len(accounts):
        raise ConfigurationError("two programs have the same account; give each one of its own")
    return accounts


def _own_name(connection: Connection) -> str:
    return str(connection.execute(text("SELECT CURRENT_USER()")).scalar_one())


def _wanted(connection: Connection, account: Account) -> Rights:
    """The program's rights on what is there: an earlier revision of the schema has less."""
    rows = connection.execute(
        text("SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()")
    )
    columns = {tuple(row) for row in rows}
    there = columns | {(table, "") for table, _ in columns}
    return frozenset(right for right in RIGHTS[account.program] if (right.table, right.column) in there)


def _held(connection: Connection, account: Account) -> _Held:
    names = {"user": account.user, "host": account.host}
    try:
        return _Held(
            rights=frozenset(_table_rights(connection, names)),
            databases=tuple(_database_rights(connection, names)),
        )
    except DBAPIError as exc:
        if error_code(exc) not in MISSING_RIGHTS:
            raise
        reader = "'@'".join(_own_name(connection).rsplit("@", 1))
        grants = "; ".join(f"GRANT SELECT ON mysql.{table} TO '{reader}'" for table in GRANT_TABLES)
        raise DatabaseRefused(
            f"'{reader}' may not read which rights {account} has; as the server's administrator, run: {grants}"
        ) from exc


_TABLE_RIGHTS = text("""
    SELECT table_name, '', table_priv FROM mysql.tables_priv
    WHERE user = :user AND host = :host AND db = DATABASE()
    UNION ALL
    SELECT table_name, column_name, column_priv FROM mysql.columns_priv
    WHERE user = :user AND host = :host AND db = DATABASE()
""")
# Their names are patterns: `dist\\_test%` is about our database as well.
_DATABASES = text("""
    SELECT db, grant_priv FROM mysql.db WHERE user = :user AND host = :host AND DATABASE() LIKE db ORDER BY db
""")


def _database_rights(connection: Connection, names: dict[str, str]) -> Iterator[Right]:
    for name, may_grant in connection.execute(_DATABASES, names):
        yield Right(f"{quoted(name)}.*", "ALL PRIVILEGES")
        if may_grant == "Y":
            yield Right(f"{quoted(name)}.*", "GRANT OPTION")


def _table_rights(connection: Connection, names: dict[str, str]) -> Iterator[Right]:
    for table, column, privileges in connection.execute(_TABLE_RIGHTS, names):
        for name in filter(None, privileges.upper().split(",")):
            yield Right(table, _SQL_NAMES.get(name, name), column)


def _grants(missing: Rights, account: Account) -> list[str]:
    return [f"GRANT {what} ON {quoted(table)} TO {account}" for table, what in statements(missing)]


def _revokes(held: _Held, wanted: Rights, account: Account) -> list[str]:
    wide = [f"REVOKE {right.privilege} ON {right.table} FROM {account}" for right in held.databases]
    excess = statements(held.rights - wanted)
    return [*wide, *(f"REVOKE {what} ON {quoted(table)} FROM {account}" for table, what in excess)]


def _run(connection: Connection, orders: Sequence[str], account: Account) -> Sequence[str]:
    for order in orders:
        try:
            # The driver's %: names may hold one.
            connection.exec_driver_sql(order.replace("%", "%%"))
        except DBAPIError as exc:
            if error_code(exc) in NO_SUCH_ACCOUNT:
                raise DatabaseRefused(f"there is no account {account}; make it first, with CREATE USER") from exc
            if error_code(exc) in MISSING_RIGHTS:
                raise DatabaseRefused(f"{order}: {exc.orig}; run it as the server's administrator") from exc
            raise
    return orders
