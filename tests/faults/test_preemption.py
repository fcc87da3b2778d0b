"""A slave whose machine the cloud takes away: what it runs is handed back before that, and runs elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..fakes.metadata import FakeMetadata
from ..farm import Farm, wait


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    server = FakeMetadata()
    server.start()
    yield server
    server.stop()
    assert server.violations == []


def test_a_preempted_slave_hands_back_at_once_and_takes_nothing_more(
    farm: Farm, marks: Path, metadata: FakeMetadata
) -> None:
    farm.start(slave={"metadata_url": metadata.url})
    preempted = farm.slave()
    script = f"mktemp {marks}/run.XXXXXX > /dev/null; [ $(ls {marks} | wc -l) -gt 1 ] || sleep 60"
    farm.submit("j", {"isolate_hash": farm.archive(script), "description": "t"})
    wait(lambda: len(list(marks.iterdir())) == 1)

    metadata.preempt()

    wait(lambda: farm.sql("SELECT state, busy FROM slaves") == [("preempted", 0)])
    [attempt] = farm.sql("SELECT slave_id, lease_until, finished_at FROM attempts")
    assert tuple(attempt) == (None, None, None)
    wait(lambda: farm.tube() == 1)
    assert [tuple(row) for row in farm.sql("SELECT actor, detail FROM events WHERE kind = 'released'")] == [
        ("slave-0", "the slave's machine was preempted")
    ]

    farm.configure()
    farm.slave()
    assert farm.wait_for_job("j")["result"] == "succeeded"
    [attempt] = farm.attempts("j")
    assert (attempt["attempt"], attempt["slave_id"]) == (0, "slave-1")
    preempted.stop()
    assert farm.sql("SELECT state FROM slaves WHERE slave_id = 'slave-0'") == [("preempted",)]
