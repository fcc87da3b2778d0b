"""One pooled way to MySQL: transactions that are repeated when that is safe, and errors that are ours."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from pymysql.constants import CLIENT
from pymysql.err import DataError, IntegrityError, MySQLError, NotSupportedError, ProgrammingError
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from dist_test.errors import DatabaseRefused, DatabaseUnavailable, SchemaMismatch
from dist_test.settings import MysqlSettings
from dist_test.storage import schema

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

# What will be refused again: bad data, a broken constraint, a wrong statement. Everything else may pass: a full disk is
# emptied, a server that shuts down or fails over comes back, a right that is missing is granted.
_REFUSALS = (DataError, IntegrityError, ProgrammingError, NotSupportedError)
NO_SUCH_TABLE = 1146
MISSING_RIGHTS = (1044, 1142, 1143)  # on the database, a table, a column
ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.05
CONNECT_TIMEOUT_SECONDS = 5
ANSWER_SECONDS = 60
# A host that froze or lost its power in a transaction sends nothing, not even the end of its connection. Its locks, on
# the row of a job say, would stay for MySQL's eight hours, and nothing of that job could be recorded.
SILENCE_SECONDS = 20


class Affected(NamedTuple):
    """What a statement did: rows matched, and the number it gave to LAST_INSERT_ID."""

    rows: int
    insert_id: int


class Database:
    """A pool of connections to one MySQL database. Safe to share between threads; not across a fork."""

    def __init__(
        self,
        settings: MysqlSettings,
        *,
        pool_size: int = 8,
        answer_seconds: int = ANSWER_SECONDS,
        silence_seconds: int = SILENCE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`answer_seconds`: how long one statement may take before its connection counts as lost.

        `silence_seconds`: after so long without a statement the server ends a connection, and its transaction.
        """
        self.settings = settings
        self._sleep = sleep
        self.engine = _engine(settings, pool_size, answer_seconds, silence_seconds)
        # Its transactions end with their script, so a returned connection needs no ROLLBACK: a round trip saved.
        self._scripts = _engine(
            settings,
            pool_size,
            answer_seconds,
            silence_seconds,
            pool_reset_on_return=None,
            connect_args={"client_flag": CLIENT.MULTI_STATEMENTS},
        )

    def run(self, work: Callable[[Connection], Result], *, attempts: int = ATTEMPTS) -> Result:
        """Give back what `work` gives back, run in one READ COMMITTED transaction.

        `work` may be run several times: a deadlock, a lock timeout or a lost connection repeats it from its start,
        with growing pauses. When the connection is lost during the commit, the transaction may have been committed:
        `work` must find that out by itself, as every conditional update does. Raises DatabaseUnavailable when that was
        in vain, and DatabaseRefused at once for what would fail every time.
        """

        def transaction() -> Result:
            with self.engine.begin() as connection:
                return work(connection)

        return self._repeated(transaction, attempts)

    def run_each(self, work: Callable[[Connection], Result], *, attempts: int = ATTEMPTS) -> Result:
        """As run, but each statement of `work` is a transaction by itself: no lock outlives it, should we freeze."""

        def statements() -> Result:
            with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return work(connection)

        return self._repeated(statements, attempts)

    def run_script(self, script: str, values: Mapping[str, Any]) -> Affected:
        """Run statements separated by `;` as one transaction in one round trip; give back what the first one did.

        For the hot path: values are written `%(name)s`, as pymysql has them. Repeated, and raises, as `run` does.
        """
        return self._repeated(lambda: self._run_script(f"{script};\nCOMMIT", values), ATTEMPTS)

    def _run_script(self, script: str, values: Mapping[str, Any]) -> Affected:
        connection = self._scripts.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(script, values)
            first = Affected(rows=cursor.rowcount, insert_id=cursor.lastrowid)
            while cursor.nextset():
                pass
        except BaseException:
            # Somewhere in the middle of its transaction: of no further use.
            connection.invalidate()
            raise
        finally:
            connection.close()
        return first

    def _repeated(self, act: Callable[[], Result], attempts: int) -> Result:
        for attempt in range(attempts):
            try:
                return act()
            except (DBAPIError, PoolTimeout, MySQLError) as exc:
                if isinstance(getattr(exc, "orig", exc), _REFUSALS):
                    raise DatabaseRefused(f"the database refused a statement: {_reason(exc)}") from exc
                if attempt == attempts - 1:
                    raise self._unavailable(exc) from exc
                logger.warning("Repeating a transaction: %s", _reason(exc), extra={"action": "database_retry"})
                self._sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def check_schema(self, needs: str = schema.REVISION) -> None:
        """Raise SchemaMismatch, with the way out, unless the schema serves programs that were written for `needs`.

        It does when it is that revision, or a newer one that says so: the programs of the release before run on during
        an upgrade, and after a step back.
        """
        found = self.run(revision)
        if found == needs or (found is not None and found > needs and self._serves(found, needs)):
            return
        raise SchemaMismatch(
            f"the schema of database {self.settings.database} on {self.settings.host} is"
            f" {found or 'not there yet'}, this version of dist_test needs {needs}; {_advice(found, needs)}"
        )

    def _serves(self, found: str, needs: str) -> bool:
        since = self.run(lambda connection: serves_since(connection, found))
        return since is not None and since <= needs

    def _unavailable(self, exc: Exception) -> DatabaseUnavailable:
        settings = self.settings
        advice = "; grant it: dist-test-master migrate --grant" if error_code(exc) in MISSING_RIGHTS else ""
        return DatabaseUnavailable(
            f"the database {settings.database} on {settings.host}:{settings.port} did not do its work:"
            f" {_reason(exc)}{advice}"
        )

    def close(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()
        self._scripts.dispose()


def revision(connection: Connection) -> str | None:
    """The newest migration that was applied; None when none was."""
    return _scalar_if_there(connection, "SELECT version_num FROM alembic_version")


def serves_since(connection: Connection, found: str) -> str | None:
    """The oldest revision whose programs can use the schema at the revision `found`; None when it does not say."""
    query = "SELECT serves_since FROM schema_revisions WHERE revision = :found"
    return _scalar_if_there(connection, query, found=found)


def _scalar_if_there(connection: Connection, query: str, **values: str) -> str | None:
    try:
        return connection.execute(text(query), values).scalar()
    except DBAPIError as exc:
        if error_code(exc) == NO_SUCH_TABLE:
            return None
        raise


def _advice(found: str | None, needs: str) -> str:
    if found is not None and found > needs:
        return "upgrade dist_test on this host"
    return "run: dist-test-master migrate"


def _engine(
    settings: MysqlSettings,
    pool_size: int,
    answer_seconds: int,
    silence_seconds: int,
    *,
    connect_args: Mapping[str, Any] | None = None,
    **options: Any,
) -> Engine:
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
        # A pooled connection is replaced before the server ends it.
        pool_recycle=silence_seconds // 2,
        pool_timeout=30,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "read_timeout": answer_seconds,
            "write_timeout": answer_seconds,
            # The mode that both servers ship as default, so that a value that does not fit is an error everywhere.
            "init_command": "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',"
            f" wait_timeout = {silence_seconds:d}",
            **(connect_args or {}),
        },
        **options,
    )


def error_code(exc: Exception) -> int:
    """The server's number of an error of SQLAlchemy's or pymysql's; 0 when it has none."""
    args: tuple[Any, ...] = getattr(exc, "orig", exc).args
    return args[0] if args and isinstance(args[0], int) else 0


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "orig", exc))
