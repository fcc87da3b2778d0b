"""One pooled way to MySQL: transactions that are repeated when that is safe, and errors that are ours."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dist_test.errors import DatabaseRefused, DatabaseUnavailable, SchemaMismatch
from dist_test.settings import MysqlSettings
from dist_test.storage import schema

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# Server error codes after which InnoDB has rolled back and the same transaction may well succeed.
DEADLOCK, LOCK_WAIT_TIMEOUT = 1213, 1205
# The server is there but cannot serve now: too many connections, shutting down, read only while failing over.
_PASSING = frozenset((DEADLOCK, LOCK_WAIT_TIMEOUT, 1040, 1053, 1290, 1836))
NO_SUCH_TABLE = 1146
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.05
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 60


class Database:
    """A pool of connections to one MySQL database. Safe to share between threads; not across a fork."""

    def __init__(
        self, settings: MysqlSettings, *, pool_size: int = 8, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.settings = settings
        self._sleep = sleep
        self.engine = _engine(settings, pool_size)

    def run(self, work: Callable[[Connection], Result], *, attempts: int = ATTEMPTS) -> Result:
        """Give back what `work` gives back, run in one READ COMMITTED transaction.

        `work` may be run several times: a deadlock, a lock timeout or a lost connection repeats it from its start,
        with growing pauses. When the connection is lost during the commit, the transaction may have been committed:
        `work` must find that out by itself, as every conditional update does. Raises DatabaseUnavailable when that was
        in vain, and DatabaseRefused at once for what would fail every time.
        """
        for attempt in range(attempts):
            try:
                with self.engine.begin() as connection:
                    return work(connection)
            except (DBAPIError, PoolTimeout) as exc:
                if not _is_passing(exc):
                    raise DatabaseRefused(f"the database refused a statement: {_reason(exc)}") from exc
                if attempt == attempts - 1:
                    raise self._unavailable(exc) from exc
                logger.warning("Repeating a transaction: %s", _reason(exc), extra={"action": "database_retry"})
                self._sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def check_schema(self) -> None:
        """Raise SchemaMismatch, with the command to run, unless the schema is this version's."""
        found = self.run(_revision)
        if found != schema.REVISION:
            raise SchemaMismatch(
                f"the schema of database {self.settings.database} on {self.settings.host} is"
                f" {found or 'not there yet'}, this version of dist_test needs {schema.REVISION};"
                f" {_advice(found)}"
            )

    def _unavailable(self, exc: Exception) -> DatabaseUnavailable:
        settings = self.settings
        return DatabaseUnavailable(
            f"the database {settings.database} on {settings.host}:{settings.port} did not do its work: {_reason(exc)}"
        )

    def close(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()


def revision(connection: Connection) -> str | None:
    """The newest migration that was applied; None when none was."""
    return _revision(connection)


def _revision(connection: Connection) -> str | None:
    try:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as exc:
        if _code(exc) == NO_SUCH_TABLE:
            return None
        raise


def _advice(found: str | None) -> str:
    if found is not None and found > schema.REVISION:
        return "upgrade dist_test on this host"
    return "run: dist-test-master migrate"


def _engine(settings: MysqlSettings, pool_size: int) -> Engine:
    url = URL.create(
        "mysql+pymysql",
        username=settings.user,
        password=settings.password,
        host=settings.host,
        port=settings.port,
        database=settings.database,
        query={"charset": "utf8mb4"},
    )
    return create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_recycle=1800,
        pool_timeout=30,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "read_timeout": READ_TIMEOUT_SECONDS,
            "write_timeout": READ_TIMEOUT_SECONDS,
            # The mode that both servers ship as default, so that a value that does not fit is an error everywhere.
            "init_command": "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'",
        },
    )


def _code(exc: DBAPIError) -> int:
    args: tuple[Any, ...] = getattr(exc.orig, "args", ())
    return args[0] if args and isinstance(args[0], int) else 0


def _is_passing(exc: DBAPIError | PoolTimeout) -> bool:
    if isinstance(exc, PoolTimeout):
        return True
    # pymysql reports a refused or dropped connection as 2003, 2006, 2013, or 0 for one it has closed itself.
    return exc.connection_invalidated or _code(exc) in _PASSING or 2000 <= _code(exc) < 2100 or _is_interface(exc)


def _is_interface(exc: DBAPIError) -> bool:
    return type(exc.orig).__name__ == "InterfaceError" or isinstance(exc.orig, OSError)


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "orig", exc))
