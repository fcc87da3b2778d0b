"""`submit`, `watch`, `cancel` and `status` as their users run them."""

import io
import json
import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dist_test.cli.master_client import MasterClient
from dist_test.cli.submit import submit_job
from dist_test.cli.watch import poll_seconds, watch_job
from dist_test.errors import MasterUnavailable
from dist_test.model.job import Job, parse_job
from tests.fakes.clock import FakeClock
from tests.fakes.master import Document, FakeMaster, attempt_document, error_answer, job_document
from tests.unit.cli.conftest import RunCli

TASKS = [{"isolate_hash": "a" * 40, "description": f"test {index}"} for index in range(3)]


@pytest.fixture
def job_file(home: Path) -> str:
    Path("job.json").write_text(json.dumps({"tasks": TASKS}))
    return "job.json"


def ending(**fields: Any) -> Any:
    """What a submitted job looks like: finished at once."""
    return lambda job: [job_document(job.job_id, **{"total_tasks": len(job.tasks), **fields})]


def test_submit_waits_for_a_success_and_exits_0(run_cli: RunCli, master: FakeMaster, job_file: str) -> None:
    ran = run_cli("submit", job_file)

    (job_id,) = master.submitted
    assert ran.status == 0
    assert ran.stderr == (
        f"dist-test: Submitted job {job_id}\n"
        f"dist-test: Watch your results at http://master.example/job?job_id={job_id}\n"
    )
    progress, closing = ran.stdout.splitlines()
    assert re.fullmatch(r" +0\.\ds\t 3/3 tests complete", progress)
    assert closing.startswith(f"Job {job_id} succeeded (3 tests, 0 failed; watched for 0.")
    assert closing.endswith(f"http://master.example/job?job_id={job_id}")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"result": "succeeded", "flaky_tasks": 2}, 0),
        ({"result": "failed", "failed_tasks": 1}, 88),
        ({"result": "canceled", "canceled_tasks": 3}, 88),
    ],
)
@pytest.mark.parametrize("command", ["submit", "watch"])
def test_the_exit_code_is_the_result(
    run_cli: RunCli, master: FakeMaster, job_file: str, command: str, fields: Document, status: int
) -> None:
    master.on_submit = ending(**fields)
    ran = run_cli("submit", job_file, *(["--no-wait"] if command == "watch" else []))
    if command == "watch":
        assert ran.status == 0
        ran = run_cli("watch")

    assert ran.status == status


def test_the_job_id_is_remembered_without_a_newline_before_the_master_is_asked(
    run_cli: RunCli, master: FakeMaster, job_file: str, last_job: Path
) -> None:
    remembered = []

    def look(job: Job) -> list[Document]:
        remembered.append(last_job.read_text())
        return [job_document(job.job_id)]

    master.on_submit = look
    run_cli("submit", "--no-wait", "--name", "nightly", job_file)

    assert remembered == list(master.submitted)
    assert re.fullmatch(rf"nightly\.ada_l\.\d+\.{os.getpid()}-[0-9a-f]{{4}}", remembered[0])


def test_a_job_that_cannot_be_remembered_is_not_submitted(
    run_cli: RunCli, master: FakeMaster, job_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIST_TEST_JOB_PATH", "/nowhere/at/all")

    ran = run_cli("submit", job_file)

    assert ran.status == 1
    assert "cannot be written to /nowhere/at/all: No such file or directory" in ran.stderr
    assert master.submitted == {}


def test_what_the_command_line_says_is_submitted(run_cli: RunCli, master: FakeMaster, job_file: str) -> None:
    run_cli("submit", "-n", "n", "--project", "p", "--owner", "o", "--max-failed-tasks", "7", "--no-wait", job_file)

    (job,) = master.submitted.values()
    assert (job.name, job.project, job.owner, job.max_failed_tasks) == ("n", "p", "o", 7)


def test_the_user_is_the_owner(run_cli: RunCli, master: FakeMaster, job_file: str) -> None:
    run_cli("submit", "--no-wait", job_file)

    assert next(iter(master.submitted.values())).owner == "ada.l"


def test_a_refused_job_is_one_line_and_exit_1(run_cli: RunCli, master: FakeMaster, job_file: str) -> None:
    master.next_answers.append(error_answer(409, "conflict", "job x is there already, with other tasks"))

    ran = run_cli("submit", job_file)

    assert (ran.status, ran.stderr) == (1, "dist-test: job x is there already, with other tasks\n")


def test_credentials_come_from_the_settings(
    run_cli: RunCli, master: FakeMaster, job_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    master.accounts = {"ada": "secret"}
    monkeypatch.setenv("DIST_TEST_USER", "ada")
    monkeypatch.setenv("DIST_TEST_PASSWORD", "secret")

    assert run_cli("submit", job_file).status == 0


def test_a_submit_without_an_answer_says_that_the_job_may_run(master: FakeMaster, tmp_path: Path) -> None:
    master.stop()
    said: list[str] = []
    client = MasterClient(master.url, clock=FakeClock(), report=said.append)
    job = parse_job({"job_id": "ada.1.2-abcd", "tasks": TASKS})

    with pytest.raises(
        MasterUnavailable, match=r"refused\nwhether the master has taken job ada\.1\.2-abcd is not known"
    ):
        submit_job(client, job, tmp_path / "last")
    assert (tmp_path / "last").read_text() == "ada.1.2-abcd"


def test_colours_are_not_forced_upon_a_pipe(
    run_cli: RunCli, master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    master.add_job("j", job_document("j", result="succeeded"))
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert "\x1b" not in run_cli("watch", "j").stdout


def test_ctrl_c_leaves_the_job_and_says_what_to_do(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j")
    # Once the watch has begun: it asks again and again.
    interrupt = threading.Thread(target=lambda: _interrupt_after_a_look(master))
    interrupt.start()

    ran = run_cli("watch", "j")
    interrupt.join()

    assert ran.status == 1
    assert ran.stderr == (
        "dist-test: no longer watching; the job goes on. `dist-test watch j` watches it again,"
        " `dist-test cancel j` ends it\n"
    )


def _interrupt_after_a_look(master: FakeMaster) -> None:
    deadline = threading.Event()
    for _ in range(500):
        if master.paths():
            break
        deadline.wait(0.01)
    deadline.wait(0.1)
    os.kill(os.getpid(), signal.SIGINT)


def watch(
    master: FakeMaster, clock: FakeClock, said: list[str], *, terminal: bool = False, term: str = "xterm"
) -> tuple[str | None, str]:
    """Watch job j; give its result and what was shown."""
    client = MasterClient(master.url, clock=clock, report=said.append)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, _environ={"TERM": term})
    job = watch_job(client, "j", console, clock)
    assert isinstance(console.file, io.StringIO)
    return job.result, console.file.getvalue()


def test_a_watch_survives_a_restart_of_the_master(master: FakeMaster) -> None:
    master.add_job("j", job_document("j"), job_document("j", result="succeeded"))
    said: list[str] = []
    clock = FakeClock(master.stop, *[lambda: None] * 50, master.start)

    result, _ = watch(master, clock, said)

    assert result == "succeeded"
    assert said == [
        f"the master {master.url} is away (Connection refused); trying for 10 minutes",
        "the master is back",
    ]


def test_a_watch_gives_up_after_ten_minutes(master: FakeMaster) -> None:
    master.add_job("j")
    clock = FakeClock(master.stop)
    said: list[str] = []

    with pytest.raises(MasterUnavailable, match="is away: Connection refused"):
        watch(master, clock, said)

    assert 590 < sum(clock.sleeps) < 610
    assert len(said) == 1


def test_a_long_watch_asks_seldom_and_a_short_one_often() -> None:
    assert poll_seconds(0) == 0.5
    assert poll_seconds(3600) == 5.0


def test_rerun_submits_what_failed_and_remembers_it(run_cli: RunCli, master: FakeMaster, last_job: Path) -> None:
    master.add_job("j", job_document("j", result="failed"))
    last_job.write_text("j")

    ran = run_cli("rerun")

    assert (ran.status, ran.stderr) == (0, "dist-test: job j.rerun-1 runs again what failed in j\n")
    assert last_job.read_text() == "j.rerun-1"


def test_a_job_without_failures_is_not_run_again(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="succeeded"))

    ran = run_cli("rerun", "j")

    assert (ran.status, ran.stderr) == (1, "dist-test: job j has nothing to run again\n")


def test_cancel_cancels_the_last_job_with_a_reason(run_cli: RunCli, master: FakeMaster, last_job: Path) -> None:
    master.add_job("j")
    last_job.write_text("j")

    ran = run_cli("cancel", "--reason", "wrong branch")

    assert (ran.status, ran.stderr) == (0, "dist-test: canceled job j\n")
    assert master.jobs["j"][0]["cancel_reason"] == "wrong branch"


def test_cancel_twice_is_a_success_twice(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j")

    assert [run_cli("cancel", "j").status, run_cli("cancel", "j").status] == [0, 0]


def test_a_job_that_has_ended_cannot_be_canceled(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="succeeded"))

    ran = run_cli("cancel", "j")

    assert (ran.status, ran.stderr) == (1, "dist-test: job j has ended already\n")


def test_status_shows_a_job_and_its_failures(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="failed", total_tasks=4, failed_tasks=1, flaky_tasks=1, name="n"))
    master.attempts["j"] = [
        attempt_document(0, outcome="failed"),
        attempt_document(0, 1),
        attempt_document(1, outcome="timed_out", description="hangs\x1b[2J"),
    ]

    ran = run_cli("status", "j")

    assert ran.status == 0
    assert ran.stdout.splitlines()[:4] == ["job:       j", "name:      n", "owner:     someone", "state:     failed"]
    assert "tasks:     4 of 4 done, 3 succeeded, 1 flaky, 1 failed\n" in ran.stdout
    assert ran.stdout.endswith("failed:    hangs\N{REPLACEMENT CHARACTER}[2J (timed out)\n")


def test_status_as_json_has_the_keys_of_the_api(run_cli: RunCli, master: FakeMaster) -> None:
    document = job_document("j", result="succeeded")
    master.add_job("j", document)

    shown = json.loads(run_cli("status", "j", "--json").stdout)

    del document["counters"]["failed_attempts"]  # derived, and no counter
    assert shown == document


def test_status_of_all_lists_the_newest_jobs_first(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("old", job_document("old", result="canceled", canceled_tasks=1))
    master.add_job("new", job_document("new", total_tasks=12, finished_tasks=5, failed_tasks=2))

    lines = run_cli("status", "--all").stdout.splitlines()

    assert [line.split()[0] for line in lines] == ["JOB", "new", "old"]
    assert lines[1].split()[-4:] == ["someone", "running", "5/12", "2"]
    assert lines[2].split()[-3:] == ["canceled", "1/1", "1"]
