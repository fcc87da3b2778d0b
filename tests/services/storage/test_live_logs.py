"""The rows of the logs of running tasks, with the rights of masters and slaves."""

import pytest
from sqlalchemy import text

from dist_test.model.task import AttemptKey
from dist_test.model.written import Written
from dist_test.storage.claims import Claim
from dist_test.storage.database import Database
from dist_test.storage.live_logs import LiveLogs

KEY = AttemptKey(7, 3, 0)


@pytest.fixture
def master(master_database: Database) -> LiveLogs:
    return LiveLogs(master_database)


@pytest.fixture
def slave(slave_database: Database) -> LiveLogs:
    return LiveLogs(slave_database)


def written(stdout: bytes, stderr: bytes = b"", *, before: int = 0) -> dict[str, Written]:
    return {
        "stdout": Written(total_bytes=before + len(stdout), tail=stdout),
        "stderr": Written(total_bytes=len(stderr), tail=stderr),
    }


def _age(database: Database, seconds: int) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            text("UPDATE live_logs SET wanted_until = wanted_until - INTERVAL :s SECOND"), {"s": seconds}
        )


def _wanted_seconds(database: Database) -> float:
    query = "SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), wanted_until) / 1e6 FROM live_logs"
    with database.engine.begin() as connection:
        return float(connection.execute(text(query)).scalar_one())


def test_nothing_is_written_while_nobody_looks(slave: LiveLogs, master: LiveLogs) -> None:
    assert slave.wanted([KEY.job]) == []
    assert not slave.write(Claim(key=KEY, number=1), written(b"x"))
    assert master.look(KEY, "stdout", wants_more=False) is None
    assert slave.wanted([KEY.job]) == []


def test_a_look_has_the_slave_write_and_the_next_one_sees_it(slave: LiveLogs, master: LiveLogs) -> None:
    assert master.look(KEY, "stdout", wants_more=True) is None
    [wanted] = slave.wanted([KEY.job, 8])
    assert (wanted.key, wanted.claim, wanted.stdout_bytes, wanted.stderr_bytes) == (KEY, None, 0, 0)
    assert slave.write(Claim(key=KEY, number=2), written(b"\x00\xff\n'", b"\\", before=10))
    stdout, stderr = (master.look(KEY, name, wants_more=True) for name in ("stdout", "stderr"))
    assert stdout is not None
    assert stderr is not None
    assert stdout.written == Written(total_bytes=14, tail=b"\x00\xff\n'")
    assert stderr.written == Written(total_bytes=1, tail=b"\\")
    assert stdout.claim == 2
    assert stdout.written_at is not None
    assert stdout.written_at <= stdout.now
    [wanted] = slave.wanted([KEY.job])
    assert (wanted.claim, wanted.stdout_bytes, wanted.stderr_bytes) == (2, 14, 1)


def test_other_jobs_are_not_asked_about(slave: LiveLogs, master: LiveLogs) -> None:
    master.look(KEY, "stdout", wants_more=True)
    assert slave.wanted([KEY.job + 1]) == []


def test_a_claim_that_is_over_writes_nothing(slave: LiveLogs, master: LiveLogs) -> None:
    master.look(KEY, "stdout", wants_more=True)
    assert slave.write(Claim(key=KEY, number=2), written(b"new"))
    assert not slave.write(Claim(key=KEY, number=1), written(b"ghost"))
    log = master.look(KEY, "stdout", wants_more=True)
    assert log is not None
    assert (log.claim, log.written.tail) == (2, b"new")


def test_a_row_is_wanted_for_a_quarter_of_a_minute_after_the_last_look(
    database: Database, slave: LiveLogs, master: LiveLogs
) -> None:
    master.look(KEY, "stdout", wants_more=True)
    assert 13 < _wanted_seconds(database) <= 15
    _age(database, 16)
    assert slave.wanted([KEY.job]) == []
    assert not slave.write(Claim(key=KEY, number=1), written(b"x"))
    master.look(KEY, "stdout", wants_more=True)
    assert len(slave.wanted([KEY.job])) == 1


def test_looking_again_soon_costs_no_write(database: Database, master: LiveLogs) -> None:
    master.look(KEY, "stdout", wants_more=True)
    _age(database, 3)
    master.look(KEY, "stdout", wants_more=True)
    assert _wanted_seconds(database) < 12
    _age(database, 4)
    master.look(KEY, "stdout", wants_more=False)
    assert _wanted_seconds(database) > 13


def test_rows_that_nobody_wants_are_removed_after_a_while(database: Database, master: LiveLogs) -> None:
    master.look(KEY, "stdout", wants_more=True)
    _age(database, 70)
    assert master.remove_unwanted() == 0
    _age(database, 10)
    assert master.remove_unwanted() == 1
    assert master.look(KEY, "stdout", wants_more=False) is None
