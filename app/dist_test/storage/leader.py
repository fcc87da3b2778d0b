"""Elect one of several masters by a named lock of MySQL, and let it prove before each act that it still leads."""

import logging
from collections.abc import Callable

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from dist_test.errors import DatabaseUnavailable
from dist_test.storage.database import Database

logger = logging.getLogger(__name__)

# A leader whose host froze keeps its lock only as long as the server waits for its next word.
SILENCE_SECONDS = 60


class Leadership:
    """A candidate for one role. Not safe to share between threads."""

    def __init__(self, database: Database, role: str, *, silence_seconds: int = SILENCE_SECONDS) -> None:
        """`silence_seconds`: another may lead so long after the server has last heard of this one."""
        # Lock names are the server's, not the database's: two clusters may share a server.
        self._name = f"dist_test.{role}.{database.settings.database}"[:64]
        self._database = database
        self._silence_seconds = silence_seconds
        self._connection: Connection | None = None

    def holds(self) -> bool:
        """Whether this candidate leads now; takes the role when it is free. False when MySQL is away."""
        return self._ask(lambda connection: self._is_mine(connection) or self._take(connection))

    def still_holds(self) -> bool:
        """Whether this candidate has led without a break since `holds` last said so: what to ask before each act."""
        return self._connection is not None and self._ask(self._is_mine)

    def require(self, what: str) -> None:
        """Raise DatabaseUnavailable unless `still_holds`. `what`: that the lock is on, for people."""
        if not self.still_holds():
            raise DatabaseUnavailable(f"the lock on {what} was lost, and with it the connection; run it again")

    def resign(self) -> None:
        """Give the role up, if it is held."""
        if self._connection is not None:
            # The lock ends with the session, so the connection must not go back to the pool.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None

    def _ask(self, question: Callable[[Connection], bool]) -> bool:
        try:
            return question(self._connect())
        except SQLAlchemyError as exc:
            logger.warning("Not leading: %s", exc, extra={"action": "leadership_lost"})
            self.resign()
            return False

    def _take(self, connection: Connection) -> bool:
        return bool(connection.execute(text("SELECT GET_LOCK(:name, 0)"), {"name": self._name}).scalar())

    def _is_mine(self, connection: Connection) -> bool:
        # GET_LOCK is silently lost when a connection is replaced: ask who holds it, every time.
        query = text("SELECT IS_USED_LOCK(:name) = CONNECTION_ID()")
        return bool(connection.execute(query, {"name": self._name}).scalar())

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.execute(text(f"SET SESSION wait_timeout = {self._silence_seconds:d}"))
        return self._connection
