"""`make demo`: a real suite on a real cluster, by the commands that a user would type, and what came of it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import requests
from rich.console import Console
from rich.table import Table
from rich.text import Text

import dist_test
from dist_test.errors import LocalClusterError
from dist_test.local import background
from dist_test.local.configuration import clean_environment, client_environment
from dist_test.local.program import beside_python
from dist_test.local.status import ClusterStatus
from dist_test.local.verdict import Expectation, Result, describe, describe_result, differences, read_expectations

_FINISHED_STATUSES = (0, 88)  # every test passed; some failed, as some of the sample suite must
_ANSWER_SECONDS = 30
_MAX_ATTEMPTS = 1000
_PIPE_WIDTH = 160  # columns; nobody sees where a log's lines end
# Not /tmp, which is often in memory: a database takes some hundred megabytes.
_TEMPORARY = Path("/var/tmp")


def run_demo(*, slaves: int, slots: int, state_dir: Path | None, suite_dir: Path | None, keep: bool) -> bool:
    """Bring a cluster up, run the suite, print expected and actual per test; True when all of it agrees.

    `state_dir` None: a new directory, removed at the end unless `keep` or something differs.
    Raises LocalClusterError when the cluster or a command fails.
    """
    suite = Suite.read(suite_dir or _sample_suite())
    is_temporary = state_dir is None
    state_dir = state_dir or Path(tempfile.mkdtemp(prefix="dist_test-demo-", dir=_TEMPORARY))
    click.echo(f"bringing a cluster up in {state_dir}")
    agrees = False
    try:
        with _cluster(state_dir, slaves=slaves, slots=slots, keep=keep) as status:
            click.echo(f"up: {status.master_url}")
            agrees = _run_suite(suite, state_dir, status)
            click.echo(f"web: {status.master_url}{'' if keep else ' (until now; KEEP=1 leaves it up)'}")
    finally:
        if is_temporary and agrees and not keep:
            shutil.rmtree(state_dir)
        else:
            click.echo(f"logs and results are in {state_dir}")
    return agrees


@dataclass(frozen=True, kw_only=True)
class Suite:
    """`tasks` are a job's tasks without their isolate_hash; a test NAME is described by NAME.isolate."""

    directory: Path
    tasks: Sequence[dict[str, Any]]
    expectations: Mapping[str, Expectation]

    @classmethod
    def read(cls, directory: Path) -> "Suite":
        """Raises LocalClusterError unless tasks.json and expected.json are there and name the same tests."""
        try:
            tasks = json.loads((directory / "tasks.json").read_text())["tasks"]
            expectations = read_expectations((directory / "expected.json").read_text())
        except FileNotFoundError as error:
            raise LocalClusterError(f"{error.filename} is missing; name a suite's directory with --suite") from error
        if unmatched := {task["description"] for task in tasks} ^ expectations.keys():
            raise LocalClusterError(f"only one of tasks.json and expected.json has {', '.join(sorted(unmatched))}")
        return cls(directory=directory.absolute(), tasks=tasks, expectations=expectations)


def _sample_suite() -> Path:
    return Path(dist_test.__file__).parents[2] / "tests" / "sample_suite"


@contextmanager
def _cluster(state_dir: Path, *, slaves: int, slots: int, keep: bool) -> Iterator[ClusterStatus]:
    status = background.start(state_dir, slaves=slaves, slots=slots, dies_with_us=not keep)
    try:
        yield status
    finally:
        if keep:
            click.echo(f"the cluster stays up; end it with: dist-test local down --state {state_dir}")
        else:
            background.stop(state_dir)


def _run_suite(suite: Suite, state_dir: Path, status: ClusterStatus) -> bool:
    environment = clean_environment(os.environ) | client_environment(state_dir, status.master_url, status.isolate_url)
    work_dir, results_dir = state_dir / "demo", state_dir / "results"
    work_dir.mkdir(exist_ok=True)
    digests = _archive(suite, work_dir, environment)
    job_path = work_dir / "job.json"
    tasks = [task | {"isolate_hash": digests[task["description"]]} for task in suite.tasks]
    job_path.write_text(json.dumps({"tasks": tasks}))
    submit = ["submit", "--name", "demo", "--output-dir", str(results_dir), "--logs", "--artifacts", str(job_path)]
    _client(submit, environment, expected_statuses=_FINISHED_STATUSES)
    job_id = (state_dir / "last-job").read_text()
    results = _results(_attempts(status.master_url, job_id), suite.expectations, results_dir)
    return _print_verdict(suite.expectations, results)


def _archive(suite: Suite, work_dir: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Package every test and upload what the isolate server lacks; the digests by test."""
    gen_files = [_write_gen_file(suite, name, work_dir) for name in suite.expectations]
    dump = work_dir / "hashes.json"
    _client(["isolate", "batcharchive", f"--dump-json={dump}", "--", *map(str, gen_files)], environment)
    digests: dict[str, str] = json.loads(dump.read_text())
    return digests


def _write_gen_file(suite: Suite, name: str, work_dir: Path) -> Path:
    arguments = ["--isolate", f"{name}.isolate", "--isolated", str(work_dir / f"{name}.isolated")]
    path = work_dir / f"{name}.isolated.gen.json"
    path.write_text(json.dumps({"version": 1, "dir": str(suite.directory), "args": arguments}))
    return path


def _client(
    arguments: Sequence[str], environment: Mapping[str, str], *, expected_statuses: Sequence[int] = (0,)
) -> None:
    """Run a `dist-test` command that talks to the user itself. Raises LocalClusterError when it fails."""
    sys.stdout.flush()
    status = subprocess.run([beside_python("dist-test"), *arguments], env=environment, check=False).returncode
    if status not in expected_statuses:
        raise LocalClusterError(f"`dist-test {' '.join(arguments[:2])}` ended with exit status {status}")


def _attempts(master_url: str, job_id: str) -> list[dict[str, Any]]:
    with requests.Session() as session:
        session.trust_env = False  # no proxy for loopback
        answer = session.get(
            f"{master_url}/api/v1/jobs/{job_id}/attempts", params={"limit": _MAX_ATTEMPTS}, timeout=_ANSWER_SECONDS
        )
        answer.raise_for_status()
        attempts: list[dict[str, Any]] = answer.json()["attempts"]
    return attempts


def _results(
    attempts: Iterable[Mapping[str, Any]], expectations: Mapping[str, Expectation], results_dir: Path
) -> dict[str, Result]:
    by_test: dict[str, list[Mapping[str, Any]]] = {name: [] for name in expectations}
    for attempt in attempts:
        by_test[attempt["description"]].append(attempt)
    return {name: _result(by_test[name], expectations[name], results_dir) for name in expectations}


def _result(attempts: Sequence[Mapping[str, Any]], expected: Expectation, results_dir: Path) -> Result:
    fetched = [(attempt["attempt"], results_dir / _fetched_name(attempt)) for attempt in attempts]
    paths = {f"{n}.{stream}": Path(f"{base}.{stream}") for n, base in fetched for stream in ("stdout", "stderr")}
    return Result(
        outcomes=[attempt["outcome"] for attempt in attempts],
        logs={log: path.read_text(errors="replace") for log, path in paths.items() if path.exists()},
        artifacts=sorted({name for _, base in fetched for name in _members(Path(f"{base}.zip"))}),
        processes_left=_processes_named(expected.no_process_named) if expected.no_process_named else 0,
    )


def _fetched_name(attempt: Mapping[str, Any]) -> str:
    # compatibility.md 3: safe(task_id).attempt.safe(description), where safe makes all but letters and digits a _
    task_id, description = (re.sub(r"[^0-9A-Za-z]", "_", attempt[key]) for key in ("task_id", "description"))
    return f"{task_id}.{attempt['attempt']}.{description}"


def _members(path: Path) -> list[str]:
    if not path.exists():
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _processes_named(argument: str) -> int:
    wanted = argument.encode()
    return sum(wanted in _arguments(path) for path in Path("/proc").glob("[0-9]*/cmdline"))


def _arguments(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []  # it ended as we looked


def _print_verdict(expectations: Mapping[str, Expectation], results: Mapping[str, Result]) -> bool:
    table = Table("test", "expected", "actual", "", box=None)
    agrees = True
    for name, expected in expectations.items():
        found = differences(expected, results[name])
        agrees = agrees and not found
        verdict = Text("; ".join(found), style="red") if found else Text("ok", style="green")
        table.add_row(name, describe(expected), describe_result(expected, results[name]), verdict)
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)
    click.echo("everything as expected" if agrees else "NOT as expected")
    return agrees
