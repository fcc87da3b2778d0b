"""`bin/client`: the lines, exit codes and options of the original's client."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dist_test.cli.shims_client import main
from dist_test.model.job import Job
from tests.fakes.master import Document, FakeMaster, attempt_document, job_document
from tests.unit.cli.conftest import Ran
from tests.unit.cli.test_fetch import a_zip

TASKS = [{"isolate_hash": "a" * 40, "description": f"test {index}", "max_retries": -1} for index in range(3)]
Client = Callable[..., Ran]


@pytest.fixture
def client(
    home: Path, master: FakeMaster, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Client:
    """Runs the client with the fake master configured."""
    monkeypatch.setenv("DIST_TEST_MASTER", f"{master.url}/")
    Path("job.json").write_text(json.dumps({"tasks": TASKS}))

    def run(*arguments: str) -> Ran:
        with pytest.raises(SystemExit) as exited:
            main(arguments)
        captured = capfd.readouterr()
        return Ran(status=int(exited.value.code or 0), stdout=captured.out, stderr=captured.err)

    return run


def ending(**fields: object) -> Callable[[Job], list[Document]]:
    return lambda job: [job_document(job.job_id, total_tasks=len(job.tasks), **fields)]  # type: ignore[arg-type]  # keyword documents


def test_a_submit_without_waiting_logs_the_job_and_remembers_it(
    client: Client, master: FakeMaster, last_job: Path
) -> None:
    ran = client("submit", "--no-wait", "--name", "kudu", "job.json")

    (job_id,) = master.submitted
    assert (ran.status, ran.stdout) == (0, "")
    lines = ran.stderr.splitlines()
    assert all(line.startswith("INFO:dist_test.client:") for line in lines)
    assert f"INFO:dist_test.client:Submitted job {job_id}" in lines
    assert f"INFO:dist_test.client:Watch your results at http://master.example/job?job_id={job_id}" in lines
    assert re.fullmatch(r"kudu\.ada_l\.\d+\.\d+-[0-9a-f]{4}", job_id)
    assert last_job.read_text() == job_id


@pytest.mark.parametrize(
    ("fields", "status", "progress"),
    [
        ({"result": "succeeded"}, 0, "3/3 tests complete"),
        ({"result": "succeeded", "flaky_tasks": 1, "retried_attempts": 2}, 0, "3/3 tests complete (2 retries)"),
        ({"result": "failed", "failed_tasks": 1}, 88, "3/3 tests complete (1 failed)"),
        ({"result": "canceled", "canceled_tasks": 3}, 88, "3/3 tests complete (3 failed)"),
    ],
)
def test_a_submit_that_waits_exits_as_the_job_ends(
    client: Client, master: FakeMaster, fields: Document, status: int, progress: str
) -> None:
    master.on_submit = ending(**fields)
    ran = client("submit", "job.json")

    assert ran.status == status
    line, job_line = ran.stdout.splitlines()
    assert re.fullmatch(rf" \d\.\ds\t {re.escape(progress)}", line)
    assert job_line == f"job_id={next(iter(master.submitted))}"


def test_watch_takes_the_last_job_and_says_so(client: Client, master: FakeMaster, last_job: Path) -> None:
    master.add_job("j", job_document("j", result="failed", total_tasks=2, failed_tasks=1))
    last_job.write_text("j")
    ran = client("watch")

    assert ran.status == 88
    assert ran.stderr.startswith("INFO:dist_test.client:Using most recently submitted job id: j\n")
    assert "job_id=" not in ran.stdout


def test_cancel_logs_the_masters_word(client: Client, master: FakeMaster) -> None:
    master.add_job("j", job_document("j"))
    ran = client("cancel", "j")

    assert (ran.status, ran.stderr) == (0, 'INFO:dist_test.client:Cancellation: {"status": "SUCCESS"}\n')


def test_fetch_leaves_zips_and_directories_alone(client: Client, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="succeeded"))
    link = master.add_file("zip0", a_zip(("build/logs/x.xml", "<x/>")))
    master.attempts["j"] = [attempt_document(0, artifacts_url=link)]
    ran = client("fetch", "--artifacts", "-d", "out", "j")

    assert ran.status == 0, ran.stderr
    base = f"{'a' * 40}_0.0.test_0"
    assert sorted(path.name for path in Path("out").iterdir()) == [base, f"{base}.zip"]
    assert (Path("out") / base / "build/logs/x.xml").read_text() == "<x/>"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 1),
        (("nonsense",), 1),
        (("submit",), 1),
        (("submit", "a", "b"), 1),
        (("submit", "missing.json"), 1),
        (("submit", "--nonsense", "a"), 2),
        (("watch", "a", "b"), 1),
        (("watch", "unknown"), 1),
        (("watch",), 1),
        (("cancel", "a", "b"), 1),
        (("fetch", "j"), 2),
        (("fetch", "-a", "j", "k"), 2),
        (("fetch", "-a", "unknown"), 1),
    ],
    ids=str,
)
def test_what_cannot_be_done_exits_as_the_original_did(client: Client, arguments: tuple[str, ...], status: int) -> None:
    ran = client(*arguments)

    assert (ran.status, ran.stdout) == (status, "")
    assert ran.stderr
    assert "Traceback" not in ran.stderr
