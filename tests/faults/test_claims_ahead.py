"""A slot that runs a short task claims the next one meanwhile: nothing waits behind what turns out to be long."""

import itertools
import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

from ..farm import Farm, wait


def _learn(farm: Farm, *descriptions: str) -> None:
    """Let a slave find out that these tests are short."""
    digest = farm.archive("exit 0")
    farm.submit("learn", *({"isolate_hash": digest, "description": one} for one in descriptions))
    farm.wait_for_job("learn")
    wait(lambda: farm.sql("SELECT COUNT(*) FROM durations") == [(len(descriptions),)])


def _submit_one_that_waits(farm: Farm, marks: Path) -> None:
    """A job of two that are expected to be short: whichever is first runs until there is a mark."""
    digest = farm.archive(f"mkdir {marks}/first || exit 0; while [ ! -e {marks}/go ]; do sleep 0.1; done")
    farm.submit("j", *({"isolate_hash": digest, "description": one} for one in ("a", "b")))


def _releases(farm: Farm) -> int:
    return len(farm.sql("SELECT 1 FROM events WHERE kind = 'released'"))


def test_what_was_claimed_behind_a_long_task_goes_to_another_slave(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    _learn(farm, "a", "b")
    _submit_one_that_waits(farm, marks)
    wait(lambda: _releases(farm) == 1)
    farm.slave()
    wait(lambda: farm.job("j")["counters"]["succeeded_tasks"] == 1)
    (marks / "go").touch()
    farm.wait_for_job("j")

    rows = farm.sql("SELECT slave_id, takeovers FROM attempts JOIN jobs USING (job_key) WHERE job_id = 'j'")
    assert sorted(tuple(row) for row in rows) == [("slave-0", 0), ("slave-1", 0)]
    assert "j: 2 tasks = 2 ended + 0 running + 0 queued: clean" in farm.operate("audit", "j")


def test_a_slave_that_leaves_runs_nothing_that_it_has_claimed_ahead(farm: Farm, marks: Path) -> None:
    farm.start()
    slave = farm.slave()
    _learn(farm, "a", "b")
    _submit_one_that_waits(farm, marks)
    wait((marks / "first").exists)
    os.kill(slave.pid, signal.SIGTERM)
    wait(lambda: farm.sql("SELECT state FROM slaves")[0].state == "draining")
    (marks / "go").touch()
    wait(lambda: not slave.is_running)

    rows = farm.sql("SELECT outcome, lease_until, takeovers FROM attempts JOIN jobs USING (job_key) WHERE job_id = 'j'")
    assert sorted((str(row.outcome), row.lease_until, row.takeovers) for row in rows) == [
        ("None", None, 0),
        ("succeeded", None, 0),
    ]


def test_an_attempt_starts_when_its_command_does(farm: Farm) -> None:
    farm.start()
    farm.slave()
    descriptions = [f"t{number}" for number in range(8)]
    _learn(farm, *descriptions)
    digest = farm.archive("sleep 0.2")
    farm.submit("j", *({"isolate_hash": digest, "description": one} for one in descriptions))
    farm.wait_for_job("j")

    attempts = farm.attempts("j")
    starts = sorted((datetime.fromisoformat(one["started_at"]), one["duration_seconds"]) for one in attempts)
    overlaps = [
        (start + timedelta(seconds=seconds) - following).total_seconds()
        for (start, seconds), (following, _) in itertools.pairwise(starts)
    ]
    # Without the wait in it each would overlap with the one before by all of its 0.2 s.
    assert max(overlaps) < 0.1
