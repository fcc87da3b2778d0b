"""The pool of connections, against a real server."""

from sqlalchemy import text

from dist_test.storage.database import SILENCE_SECONDS, Database

_LOCK = text("SELECT id FROM busy_period FOR UPDATE")


def test_a_transaction_whose_host_fell_silent_gives_its_locks_back(database: Database) -> None:
    frozen = Database(database.settings, silence_seconds=1)
    connection = frozen.engine.connect()
    connection.execute(_LOCK)
    # Waits for the lock; without the limit for as long as the server's own limit of 50 s lets it, and in vain.
    database.run(lambda other: other.execute(text("SET SESSION innodb_lock_wait_timeout = 10")))
    database.run(lambda other: other.execute(_LOCK), attempts=1)
    connection.invalidate()
    connection.close()
    frozen.close()


def test_every_connection_has_that_limit(database: Database) -> None:
    limit = database.run(lambda connection: connection.execute(text("SELECT @@SESSION.wait_timeout")).scalar())
    assert limit == SILENCE_SECONDS
    script = "SET @limit = @@SESSION.wait_timeout; SELECT IF(@limit = %(limit)s, 1, (SELECT 1 UNION SELECT 2))"
    database.run_script(script, {"limit": SILENCE_SECONDS})


def test_a_connection_that_idled_for_too_long_is_replaced_without_a_word(database: Database) -> None:
    brief = Database(database.settings, silence_seconds=2)
    try:
        number = brief.run(lambda connection: connection.execute(text("SELECT CONNECTION_ID()")).scalar(), attempts=1)
        seen = text("SELECT COUNT(*) FROM information_schema.processlist WHERE id = :number")
        while database.run(lambda connection: connection.execute(seen, {"number": number}).scalar()):
            database.run(lambda connection: connection.execute(text("DO SLEEP(0.1)")))
        assert brief.run(lambda connection: connection.execute(text("SELECT 1")).scalar(), attempts=1) == 1
    finally:
        brief.close()
