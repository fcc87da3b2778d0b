"""Slaves that stop, freeze, drain and lose their servers: nothing is lost, and nothing counts twice."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from ..farm import Farm, wait


def _task(digest: str, description: str = "t", **fields: object) -> dict[str, object]:
    return {"isolate_hash": digest, "description": description, **fields}


def _mark(marks: Path) -> str:
    """A line of a script that leaves a mark for its run: a file each, since each slot has a user of its own."""
    return f"mktemp {marks}/run.$DIST_TEST_TASK_ID.XXXXXX > /dev/null"


def _count(marks: Path) -> str:
    """What a script reads the number of runs so far from."""
    return f"$(ls {marks}/run.* | wc -l)"


def _runs(marks: Path) -> list[str]:
    """The task of each run that left a mark."""
    return [path.name.removeprefix("run.").rpartition(".")[0] for path in marks.glob("run.*")]


def test_a_frozen_slaves_result_has_no_effect_once_another_has_finished(farm: Farm, marks: Path) -> None:
    farm.start()
    frozen = farm.slave()
    # The first run waits for the mark and fails; any later one succeeds at once.
    script = f"""
        {_mark(marks)}
        if [ {_count(marks)} = 1 ]; then
            while [ ! -e {marks}/go ]; do sleep 0.1; done; exit 7
        fi
    """
    farm.submit("j", _task(farm.archive(script), max_retries=3))
    wait(lambda: len(_runs(marks)) == 1)
    os.kill(frozen.pid, signal.SIGSTOP)
    farm.slave()
    job = farm.wait_for_job("j")
    events_before = farm.sql("SELECT kind, actor, claim FROM events ORDER BY event_id")

    (marks / "go").touch()
    os.kill(frozen.pid, signal.SIGCONT)
    # The slave's own row tells when it has noticed: it holds nothing any more.
    wait(lambda: farm.sql("SELECT busy FROM slaves WHERE slave_id = 'slave-0'")[0].busy == 0)

    [attempt] = farm.attempts("j")
    assert (job["result"], attempt["outcome"], attempt["slave_id"]) == ("succeeded", "succeeded", "slave-1")
    assert farm.job("j") == job
    assert farm.sql("SELECT kind, actor, claim FROM events ORDER BY event_id") == events_before
    # What it may have stored before it noticed lies under its own claim, where nobody looks.
    assert (attempt["stdout_url"], attempt["stderr_url"]) == (None, None)
    assert all("/0/1/" in item.key for item in farm.bucket.list("j/"))


def test_a_killed_slaves_tasks_run_elsewhere(farm: Farm, marks: Path) -> None:
    farm.start()
    killed = farm.slave()
    script = f"{_mark(marks)}; [ {_count(marks)} -gt 1 ] || sleep 60"
    farm.submit("j", _task(farm.archive(script)))
    wait(lambda: len(_runs(marks)) == 1)
    killed.kill()
    farm.slave()
    assert farm.wait_for_job("j")["result"] == "succeeded"
    [attempt] = farm.attempts("j")
    assert (attempt["attempt"], attempt["slave_id"]) == (0, "slave-1")


def test_a_restart_of_beanstalkd_kills_no_task_and_runs_none_twice(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave(slots=2)
    script = f"{_mark(marks)}; while [ ! -e {marks}/go ]; do sleep 0.1; done"
    digest = farm.archive(script)
    farm.submit("j", *[_task(digest, f"t{number}") for number in range(6)])
    wait(lambda: len(_runs(marks)) == 2)
    for _ in range(2):
        farm.beanstalkd.kill()
        farm.beanstalkd.start()
    # A second slave reserves the entries of the running tasks, which are ready again, and leaves those tasks alone.
    farm.slave(slots=2)
    wait(lambda: len(_runs(marks)) == 4)
    (marks / "go").touch()
    job = farm.wait_for_job("j")
    assert job["result"] == "succeeded"
    assert set(Counter(_runs(marks)).values()) == {1}
    assert all(attempt["attempt"] == 0 for attempt in farm.attempts("j"))


def test_a_beanstalkd_that_hangs_lets_no_lease_lapse(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave(slots=2)
    digest = farm.archive(f"{_mark(marks)}; while [ ! -e {marks}/go ]; do sleep 0.1; done")
    farm.submit("j", _task(digest, "one"), _task(digest, "two"))
    wait(lambda: len(_runs(marks)) == 2)
    os.kill(farm.beanstalkd.pid, signal.SIGSTOP)
    [frozen] = farm.sql("SELECT UTC_TIMESTAMP(6) AS at")

    def is_past_two_leases() -> bool:
        [row] = farm.sql(
            "SELECT MIN(lease_until) < UTC_TIMESTAMP(6) AS is_lapsed,"
            " UTC_TIMESTAMP(6) > :at + INTERVAL 8 SECOND AS is_past FROM attempts",
            at=frozen.at,
        )
        assert not row.is_lapsed
        return bool(row.is_past)

    wait(is_past_two_leases)
    os.kill(farm.beanstalkd.pid, signal.SIGCONT)
    (marks / "go").touch()
    assert farm.wait_for_job("j")["result"] == "succeeded"
    assert len(_runs(marks)) == 2


def test_the_loss_of_beanstalkds_disk_loses_no_task_and_stops_none(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave(slots=2)
    digest = farm.archive(f"{_mark(marks)}; while [ ! -e {marks}/go ]; do sleep 0.1; done")
    farm.submit("j", *[_task(digest, f"t{number}") for number in range(20)])
    wait(lambda: len(_runs(marks)) == 2)
    farm.beanstalkd.kill()
    farm.beanstalkd.wipe()
    farm.beanstalkd.start()
    (marks / "go").touch()
    assert farm.wait_for_job("j")["result"] == "succeeded"
    assert sorted(Counter(_runs(marks)).values()) == [1] * 20


def test_sigterm_lets_running_tasks_finish_and_takes_no_more(farm: Farm, marks: Path) -> None:
    farm.start()
    slave = farm.slave()
    digest = farm.archive(f"touch {marks}/started; while [ ! -e {marks}/go ]; do sleep 0.1; done")
    farm.submit("j", _task(digest, "one"), _task(digest, "two"))
    wait(lambda: (marks / "started").exists())
    os.kill(slave.pid, signal.SIGTERM)
    wait(lambda: farm.sql("SELECT state FROM slaves")[0].state == "draining")
    (marks / "go").touch()
    wait(lambda: not slave.is_running)
    assert slave.exit_status == 0
    assert sorted(str(attempt["outcome"]) for attempt in farm.attempts("j")) == ["None", "succeeded"]
    assert farm.sql("SELECT state, busy FROM slaves") == [("drained", 0)]


def test_a_second_sigterm_hands_tasks_back_without_using_anything_up(farm: Farm, marks: Path) -> None:
    farm.start()
    slave = farm.slave()
    digest = farm.archive(f"touch {marks}/started; [ -e {marks}/go ] || sleep 60")
    farm.submit("j", _task(digest))
    wait(lambda: (marks / "started").exists())
    for _ in range(2):
        os.kill(slave.pid, signal.SIGTERM)
        wait(lambda: farm.sql("SELECT state FROM slaves")[0].state in ("draining", "drained"))
    wait(lambda: not slave.is_running)
    assert farm.sql("SELECT takeovers, outcome, lease_until FROM attempts") == [(0, None, None)]
    (marks / "go").touch()
    farm.slave()
    job = farm.wait_for_job("j", 10)
    assert (job["result"], job["counters"]["total_attempts"]) == ("succeeded", 1)


def test_past_its_drain_limit_a_slave_hands_tasks_back_without_using_anything_up(farm: Farm, marks: Path) -> None:
    farm.start(slave={"drain_seconds": "1"})
    slave = farm.slave()
    digest = farm.archive(f"touch {marks}/started; [ -e {marks}/go ] || sleep 60")
    farm.submit("j", _task(digest))
    wait(lambda: (marks / "started").exists())
    os.kill(slave.pid, signal.SIGTERM)
    wait(lambda: not slave.is_running, 15)
    assert slave.exit_status == 0
    assert farm.sql("SELECT takeovers, outcome, lease_until FROM attempts") == [(0, None, None)]
    assert farm.sql("SELECT actor, detail FROM events WHERE kind = 'released'") == [("slave-0", "the slave leaves")]
    (marks / "go").touch()
    farm.slave()
    job = farm.wait_for_job("j", 10)
    assert (job["result"], job["counters"]["total_attempts"]) == ("succeeded", 1)


def test_a_slave_drains_and_resumes_as_its_row_wants(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    farm.operate("drain", "slave-0")
    wait(lambda: farm.sql("SELECT state FROM slaves")[0].state == "drained")
    farm.submit("j", _task(farm.archive("exit 0")))
    wait(lambda: farm.sql("SELECT state FROM slaves")[0].state == "drained")
    assert farm.job("j")["state"] == "running"
    farm.operate("resume", "slave-0")
    assert farm.wait_for_job("j")["result"] == "succeeded"


def test_a_canceled_task_stops_with_all_its_processes(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    script = f"""
        trap '' TERM
        (trap '' TERM; setsid sleep 300 & sleep 300) &
        id -u > {marks}/uid; touch {marks}/started
        while :; do sleep 1; done
    """
    farm.submit("j", _task(farm.archive(script), max_retries=2), _task(farm.archive("exit 0"), "never"))
    wait(lambda: (marks / "started").exists())
    uid = int((marks / "uid").read_text())
    answer = farm.cancel("j")
    assert answer["result"] == "canceled"
    wait(lambda: _processes(uid) == ["launcher"], 15)
    assert {attempt["outcome"] for attempt in farm.attempts("j")} == {"canceled"}
    wait(lambda: farm.tube() == 0)
    assert farm.job("j") == answer


def _processes(uid: int) -> list[str]:
    """What runs as the task's user; the slot's own launcher is called that."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == uid:
                command = (process / "cmdline").read_bytes()
                found.append("launcher" if b"launcher" in command else command.decode())
        except OSError:
            continue  # it ended as we looked
    return found


def test_the_retry_is_asked_for_with_credentials_after_a_401(farm: Farm) -> None:
    accounts = '{"slave": "sesame"}'
    farm.start(dist_test={"allowed_ip_ranges": "192.0.2.0/24", "accounts": accounts})
    assert farm.submit("j", _task("a" * 40)).status_code == 401
    farm.configure(
        dist_test={"allowed_ip_ranges": "192.0.2.0/24", "accounts": accounts, "user": "slave", "password": "sesame"},
        # Only the slave's question can queue the retry in time.
        master={"reconcile_seconds": "600"},
    )
    farm.master.stop()
    farm.master.start()
    farm.slave()
    digest = farm.archive("[ $DIST_TEST_ATTEMPT = 1 ]")
    assert farm.submit("j", _task(digest, max_retries=1), auth=("slave", "sesame")).status_code == 201
    job = farm.wait_for_job("j")
    assert (job["result"], job["counters"]["flaky_tasks"]) == ("succeeded", 1)


def test_a_database_that_is_away_for_a_while_costs_no_result(farm: Farm, marks: Path) -> None:
    farm.start(slave={"lease_seconds": "30"})
    farm.slave()
    digest = farm.archive(f"{_mark(marks)}; while [ ! -e {marks}/go ]; do sleep 0.1; done")
    farm.submit("j", _task(digest))
    wait(lambda: len(_runs(marks)) == 1)
    farm.mariadb.kill()
    (marks / "go").touch()
    farm.mariadb.start()
    assert farm.wait_for_job("j")["result"] == "succeeded"
    assert len(_runs(marks)) == 1


def test_logs_that_cannot_be_stored_do_not_change_the_verdict(farm: Farm) -> None:
    farm.start()
    farm.slave()
    farm.seaweedfs.kill()
    farm.submit("j", _task(farm.archive("echo oops >&2; exit 3")))
    farm.wait_for_job("j")
    [attempt] = farm.attempts("j")
    assert (attempt["outcome"], attempt["exit_status"], attempt["logs_lost"]) == ("failed", 3, True)
    assert "could not be stored" in attempt["message"]


def test_files_that_are_not_there_fail_the_setup_and_quarantine_the_slave(farm: Farm) -> None:
    farm.start()
    farm.slave()
    farm.submit("j", _task("b" * 40, max_retries=0))
    job = farm.wait_for_job("j")
    attempts = farm.attempts("j")
    assert (job["result"], [attempt["outcome"] for attempt in attempts]) == ("failed", ["setup_failed"] * 3)
    assert "b" * 40 in attempts[0]["message"]
    wait(lambda: farm.sql("SELECT state FROM slaves")[0].state == "quarantined")
    [row] = farm.sql("SELECT message FROM slaves")
    assert row.message.startswith("3 tasks in a row could not be set up")
    farm.submit("good", _task(farm.archive("exit 0")))
    assert farm.wait_for_job("good")["result"] == "succeeded", "one task is tried now and then"
    wait(lambda: farm.sql("SELECT state FROM slaves")[0].state == "up")


def test_an_attempt_that_kills_its_slave_again_and_again_is_given_up(farm: Farm, marks: Path) -> None:
    farm.start(slave={"lease_seconds": "1.2"})
    digest = farm.archive(f"{_mark(marks)}; sleep 60")
    farm.submit("j", _task(digest, max_retries=9))
    for run in range(4):
        slave = farm.slave()
        wait(lambda run=run: len(_runs(marks)) == run + 1)  # type: ignore[misc]  # bound now
        slave.kill()
    farm.slave()
    farm.wait_for_job("j")
    [attempt] = farm.attempts("j")
    assert attempt["outcome"] == "lost"
    assert "4 slaves in a row vanished" in attempt["message"]
    assert len(_runs(marks)) == 4


@pytest.mark.parametrize("stop", ["isolate", "master"])
def test_a_service_that_restarts_is_waited_for(farm: Farm, stop: str) -> None:
    farm.start()
    program = farm.isolate if stop == "isolate" else farm.master
    digest = farm.archive("[ $DIST_TEST_ATTEMPT = 1 ]")
    farm.submit("j", _task(digest, max_retries=1))
    program.kill()
    farm.slave()
    program.start()
    assert farm.wait_for_job("j")["result"] == "succeeded"
