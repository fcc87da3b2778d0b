"""Logs of tasks while they run: seen soon, and never in the way of the task."""

import base64
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from dist_test.local.program import beside_python

from ..farm import Farm, wait

SOON_SECONDS = 2.0


def _task(digest: str, description: str = "t", **fields: object) -> dict[str, object]:
    return {"isolate_hash": digest, "description": description, **fields}


def _log(farm: Farm, task: str = "0", **query: object) -> dict[str, Any]:
    answer = requests.get(
        f"{farm.url}/api/v1/jobs/j/tasks/{task}/log", params={k: str(v) for k, v in query.items()}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def _await_go(marks: Path) -> str:
    """A line of a script that waits for the mark `go`."""
    return f"while [ ! -e {marks}/go ]; do sleep 0.05; done"


class Follower:
    """A running `dist-test logs -f`, and what it has said so far."""

    def __init__(self, directory: Path, url: str, *arguments: str) -> None:
        self._paths = directory / "follower.out", directory / "follower.err"
        self._files = [path.open("wb") for path in self._paths]
        environ = os.environ | {"DIST_TEST_MASTER": url, "HOME": str(directory)}
        self.process = subprocess.Popen(
            [beside_python("dist-test"), "logs", "-f", *arguments],
            env=environ,
            stdout=self._files[0],
            stderr=self._files[1],
        )

    @property
    def out(self) -> bytes:
        return self._paths[0].read_bytes()

    @property
    def err(self) -> bytes:
        return self._paths[1].read_bytes()

    def end(self, seconds: float = 30) -> int:
        return self.process.wait(seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for file in self._files:
            file.close()


@contextmanager
def _following(farm: Farm, *arguments: str, url: str | None = None) -> Iterator[Follower]:
    follower = Follower(farm.directory, url or farm.url, *arguments)
    try:
        yield follower
    finally:
        follower.close()


def test_a_line_is_seen_within_two_seconds_and_the_end_without_a_gap(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    script = f"""
        echo begin; touch {marks}/begun; {_await_go(marks)}
        echo line; echo bad >&2; date +%s.%N > {marks}/printed
        while [ ! -e {marks}/end ]; do sleep 0.05; done
        printf '\\377\\000binary'; seq 30000; echo end
    """
    farm.submit("j", _task(farm.archive(script), "one test"))
    with _following(farm, "j", "one te", url=f"{farm.url}/") as follower:
        wait(lambda: b"begin\n" in follower.out)
        (marks / "go").touch()
        wait(lambda: b"line\n" in follower.out and b"bad\n" in follower.err)
        follower_seconds = time.time() - float((marks / "printed").read_text())
        wait(lambda: "line" in _log(farm)["data"])
        api_seconds = time.time() - float((marks / "printed").read_text())
        print(f"a line was seen after {follower_seconds:.2f} s by logs -f, {api_seconds:.2f} s through the API")
        (marks / "end").touch()
        assert follower.end() == 0
        expected = b"begin\nline\n\xff\x00binary" + b"".join(b"%d\n" % n for n in range(1, 30001)) + b"end\n"
        missing = len(expected) - len(follower.out)
        # A success keeps no log: what was printed at once beyond the last 64 KiB is said to be left out.
        assert follower.out.endswith(expected[-60_000:])
        assert missing == 0 or f"{missing} bytes of stdout are left out".encode() in follower.err
    assert follower_seconds < SOON_SECONDS
    assert api_seconds < SOON_SECONDS


def test_a_follower_gets_all_of_a_failure(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    farm.submit("j", _task(farm.archive(f"echo begin; {_await_go(marks)}; seq 10000; exit 3")))
    with _following(farm, "j", "0", "--stdout") as follower:
        wait(lambda: follower.out == b"begin\n")
        (marks / "go").touch()
        assert follower.end() == 88
        got = follower.out
        assert b"exit code 3" in follower.err
    assert got == b"begin\n" + b"".join(b"%d\n" % n for n in range(1, 10001))


def test_a_gigabyte_is_followed_by_its_end(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    # After the flood the file has its half of the limit, and the rest is in the launcher's memory alone.
    script = f"echo begin; head -c 1000000000 /dev/zero; echo; echo after; {_await_go(marks)}; echo end; exit 1"
    farm.submit("j", _task(farm.archive(script)))
    wait(lambda: _log(farm)["data"].endswith("after\n"), 60)
    log = _log(farm)
    assert (log["next_offset"], log["is_final"]) == (1_000_000_013, False)
    assert log["left_out_bytes"] == 1_000_000_013 - 2**16
    (marks / "go").touch()
    farm.wait_for_job("j")
    wait(lambda: _log(farm, offset=log["next_offset"])["is_final"])
    rest = _log(farm, offset=log["next_offset"], encoding="base64")
    assert (base64.b64decode(rest["data"]), rest["is_stored"], rest["left_out_bytes"]) == (b"end\n", True, 0)


def test_a_frozen_database_keeps_no_task_from_its_end(farm: Farm, marks: Path) -> None:
    farm.start(slave={"lease_seconds": "60", "heartbeat_seconds": "1"})
    slave = farm.slave()
    script = f"echo begin; {_await_go(marks)}; seq 100000; touch {marks}/end"
    farm.submit("j", _task(farm.archive(script)))
    wait(lambda: _log(farm)["data"] == "begin\n")
    os.kill(farm.mariadb.pid, signal.SIGSTOP)
    try:
        (marks / "go").touch()
        wait(lambda: (marks / "end").exists(), 5)
    finally:
        os.kill(farm.mariadb.pid, signal.SIGCONT)
    assert farm.wait_for_job("j")["result"] == "succeeded"
    assert slave.is_running


def test_a_cancel_ends_a_follower(farm: Farm) -> None:
    farm.start()
    farm.slave()
    farm.submit("j", _task(farm.archive("echo begin; sleep 60")))
    with _following(farm, "j", "t") as follower:
        wait(lambda: follower.out == b"begin\n")
        farm.cancel("j")
        assert follower.end() == 88
        assert b"is canceled" in follower.err


def test_a_retry_is_followed_on(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    script = f"""
        echo run $DIST_TEST_ATTEMPT
        while [ ! -e {marks}/go$DIST_TEST_ATTEMPT ]; do sleep 0.05; done
        [ $DIST_TEST_ATTEMPT = 1 ]
    """
    farm.submit("j", _task(farm.archive(script), max_retries=1))
    with _following(farm, "j", "t") as follower:
        wait(lambda: follower.out == b"run 0\n")
        (marks / "go0").touch()
        wait(lambda: follower.out == b"run 0\nrun 1\n")
        (marks / "go1").touch()
        assert follower.end() == 0
        assert follower.out == b"run 0\nrun 1\n"
        assert b"following attempt 1" in follower.err


def test_a_follower_bears_a_restart_of_the_master_and_leaves_at_ctrl_c(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    farm.submit("j", _task(farm.archive(f"echo begin; {_await_go(marks)}; echo more; sleep 60")))
    with _following(farm, "j", "t") as follower:
        wait(lambda: follower.out == b"begin\n")
        farm.master.kill()
        (marks / "go").touch()
        wait(lambda: b"is away" in follower.err)
        farm.master.start()
        wait(lambda: follower.out == b"begin\nmore\n")
        follower.process.send_signal(signal.SIGINT)
        assert follower.end() == 130
        assert b"Traceback" not in follower.err
