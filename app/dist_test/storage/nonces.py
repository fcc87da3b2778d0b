"""The nonces of HTTP Digest that were used, and how far each one's count has come: what refuses a replay anywhere."""

import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Connection, text

from dist_test.storage.database import Database
from dist_test.storage.slaves import microseconds

MAX_NONCE_CHARACTERS = 200
PRUNE_SECONDS = 60.0
PRUNED_AT_ONCE = 10_000

_ADVANCE = text("""
    UPDATE digest_nonces SET counter = :count, seen_at = UTC_TIMESTAMP(6)
    WHERE nonce = :nonce AND counter < :count
""")
# IGNORE: somebody else may use the same nonce for the first time at this moment. 0 rows: that was it.
_FIRST_USE = text("""
    INSERT IGNORE INTO digest_nonces (nonce, counter, seen_at) VALUES (:nonce, :count, UTC_TIMESTAMP(6))
""")
_PRUNE = text("""
    DELETE FROM digest_nonces WHERE seen_at < UTC_TIMESTAMP(6) - INTERVAL :age MICROSECOND LIMIT :most
""")


class Nonces:
    """The counts of all nonces, shared by the workers of all masters. Safe to share between threads."""

    def __init__(self, database: Database, *, kept_for: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        """`kept_for`: how long a use is remembered; longer than a nonce is accepted, or a replay could pass."""
        self._database = database
        self._kept_for = kept_for
        self._clock = clock
        self._prune_at = clock() + PRUNE_SECONDS

    def use(self, nonce: str, count: int) -> bool:
        """Note that `nonce` came with this count; False when it has come with this one or a higher one before.

        When the connection is lost in the middle the answer may be False for a first use: the client is then asked to
        repeat with a fresh nonce. Raises DatabaseUnavailable.
        """
        if len(nonce) > MAX_NONCE_CHARACTERS:
            return False
        self._prune_now_and_then()
        return self._database.run(lambda connection: _use(connection, nonce, count))

    def _prune_now_and_then(self) -> None:
        if self._clock() < self._prune_at:
            return
        self._prune_at = self._clock() + PRUNE_SECONDS
        values = {"age": microseconds(self._kept_for), "most": PRUNED_AT_ONCE}
        self._database.run(lambda connection: connection.execute(_PRUNE, values))


def _use(connection: Connection, nonce: str, count: int) -> bool:
    values = {"nonce": nonce, "count": count}
    if connection.execute(_ADVANCE, values).rowcount == 1:
        return True
    return connection.execute(_FIRST_USE, values).rowcount == 1
