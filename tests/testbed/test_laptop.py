"""A developer far from the cluster: all that there is to do goes through port 443 of the master's host."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from images.machine import Machine
from tests.testbed.bed import Bed
from tests.testbed.conftest import Phase
from tests.testbed.deployments import deploy_with_pyinfra
from tests.testbed.laptop import ClientFailed, Laptop
from tests.testbed.live import LiveCluster

pytestmark = pytest.mark.full

_MIB = 2**20
_BIG_BYTES = 1024 * _MIB
# What buffers and allocators may take; a body kept whole would be eight times that.
_MAX_GROWTH_BYTES = 128 * _MIB
_SAMPLE_SECONDS = 0.5

# Prints the status of an answer and its body; arguments: URL, form or '', user, password, then NAME=VALUE of headers.
_URLLIB = """
import ssl, sys, urllib.error, urllib.request
url, form, user, password, *headers = sys.argv[1:]
passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
if user:
    passwords.add_password(None, url, user, password)
class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_): return None
opener = urllib.request.build_opener(
    urllib.request.HTTPDigestAuthHandler(passwords), NoRedirect, urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=__import__("os").environ["REQUESTS_CA_BUNDLE"])))
request = urllib.request.Request(url, form.encode() or None, dict(header.split("=", 1) for header in headers))
try:
    with opener.open(request, timeout=30) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.headers.get("Location", ""))
"""


@pytest.fixture(scope="module")
def live(bed: Bed, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> LiveCluster:
    with phase("deployment"):
        deploy_with_pyinfra("testbed")
    laptop = replace(Laptop.beside(bed, tmp_path_factory.mktemp("laptop")), namespace=bed.network.outside)
    live = LiveCluster(bed=bed, laptop=laptop)
    live.become_whole()
    return live


@pytest.fixture
def laptop(live: LiveCluster) -> Laptop:
    return live.laptop


def ask(laptop: Laptop, path: str, form: str = "", *headers: str, account: tuple[str, str] = ("", "")) -> list[str]:
    """Status and body, as a program of old gets them that has Python's own HTTP client. `path` may be a whole URL."""
    url = path if "://" in path else f"{laptop.url}{path}"
    command = [*laptop.prefix, sys.executable, "-c", _URLLIB, url, form, *account, *headers]
    done = subprocess.run(command, env=laptop.environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(" ", 1)


# --- A day's work -----------------------------------------------------------------------------------------------------


def write_test(directory: Path, name: str, script: str) -> None:
    (directory / f"{name}.sh").write_text(f"#!/bin/sh\n{script}\n")
    variables = {"command": ["sh", f"{name}.sh"], "files": [f"{name}.sh", "data.bin"]}
    (directory / f"{name}.isolate").write_text(repr({"variables": variables}))
    arguments = ["--isolate", f"{name}.isolate", "--isolated", str(directory / f"{name}.isolated")]
    document = {"version": 1, "dir": str(directory), "args": arguments}
    (directory / f"{name}.isolated.gen.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def finished(live: LiveCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A job by the commands that a developer types, from the upload to the files that come of it; its id."""
    laptop, directory = live.laptop, tmp_path_factory.mktemp("tests")
    # Does not compress, and is sent in chunks: over a megabyte.
    (directory / "data.bin").write_bytes(os.urandom(3 * _MIB))
    write_test(directory, "good", "ls -l data.bin > out.txt")
    write_test(directory, "bad", "echo attempt $DIST_TEST_ATTEMPT; echo wrong >&2; exit 7")
    dump = directory / "hashes.json"
    laptop.run("isolate", "batcharchive", f"--dump-json={dump}", "--", *map(str, directory.glob("*.gen.json")))
    digests = json.loads(dump.read_text())
    common = {"artifact_archive_globs": ["*.txt"], "max_retries": 1}
    tasks = [common | {"isolate_hash": digests[name], "description": name} for name in ("good", "bad")]
    (directory / "job.json").write_text(json.dumps({"tasks": tasks}))
    laptop.run("submit", "--no-wait", "--name", "day", str(directory / "job.json"))
    laptop.run("watch", expected_statuses=[88])
    laptop.run("fetch", "--logs", "--artifacts", "--output-dir", str(directory / "results"))
    return json.loads(laptop.run("status", "--json"))["job_id"], directory / "results"


def test_job_runs_and_its_results_come_home(finished: tuple[str, Path]) -> None:
    _, results = finished
    [artifacts] = results.glob("*.good.zip")
    assert str(3 * _MIB) in zipfile.ZipFile(artifacts).read("out.txt").decode()
    assert sorted(path.read_text() for path in results.glob("*.bad.stdout")) == ["attempt 0\n", "attempt 1\n"]
    assert [path.read_text() for path in results.glob("*.bad.stderr")] == ["wrong\n"] * 2


def test_canceled_job_ends(live: LiveCluster) -> None:
    job = live.submit([{"isolate_hash": live.archive("sleep 600"), "description": "long"}])
    while not job.job_id:
        assert job.client.poll() is None, job.said
    live.laptop.run("cancel", "--reason", "seen enough", job.job_id)
    assert job.exit_status(60) == 88, job.said
    shown = json.loads(live.laptop.run("status", "--json", job.job_id))
    assert (shown["result"], shown["cancel_reason"]) == ("canceled", "seen enough")


def test_archived_paths_are_downloaded_as_they_were(laptop: Laptop, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("content")
    laptop.run(
        "isolate",
        "archive",
        "--command",
        "cat data",
        "--root",
        str(tmp_path),
        "--dump-json",
        str(tmp_path / "dump.json"),
        str(tmp_path / "data"),
    )
    [digest] = json.loads((tmp_path / "dump.json").read_text()).values()
    laptop.run("isolate", "download", "--hash", digest, "--target", str(tmp_path / "copy"))
    assert (tmp_path / "copy/data").read_text() == "content"


# --- Old clients ------------------------------------------------------------------------------------------------------


def retry_form(live: LiveCluster, job_id: str) -> str:
    """What the slave said that ran the first attempt of the test that failed."""
    [attempt, *_] = [found for found in attempts(live, job_id) if found["description"] == "bad"]
    # JOB/TASK/ATTEMPT/CLAIM/stdout: docs/reference/files-and-keys.md
    claim = int(attempt["stdout_url"].partition("?")[0].split("/")[-2])
    names = {"job_id": job_id, "task_id": attempt["task_id"], "attempt": 0, "claim": claim}
    return f"task_json={json.dumps(names)}"


def attempts(live: LiveCluster, job_id: str) -> list[dict[str, str]]:
    status, body = ask(live.laptop, f"/api/v1/jobs/{job_id}/attempts")
    assert status == "200"
    found: list[dict[str, str]] = json.loads(body)["attempts"]
    return found


def test_retry_is_asked_for_with_digest_and_a_doubled_slash(live: LiveCluster, finished: tuple[str, Path]) -> None:
    laptop, (job_id, _) = live.laptop, finished
    account = (laptop.user, laptop.password)
    status, body = ask(laptop, "//retry_task", retry_form(live, job_id), account=account)
    assert (status, json.loads(body)) == ("200", {"status": "SUCCESS"})
    assert len(attempts(live, job_id)) == 3  # asking twice queues nothing twice


@pytest.mark.parametrize("account", [("", ""), ("alice", "a guess"), ("mallory", "testbed-alice")])
def test_retry_without_the_right_credentials_is_refused(
    live: LiveCluster, finished: tuple[str, Path], account: tuple[str, str]
) -> None:
    assert ask(live.laptop, "//retry_task", retry_form(live, finished[0]), account=account)[0] == "401"


@pytest.mark.parametrize("path", ["//job_status?job_id=none", "//_ah/api/isolateservice/v1/server_details"])
def test_doubled_slashes_are_single_ones(laptop: Laptop, path: str) -> None:
    doubled, single = ask(laptop, path), ask(laptop, path[1:])
    assert doubled == single
    assert doubled[0] == "200"


# --- Who may not ------------------------------------------------------------------------------------------------------


def test_submit_from_afar_needs_an_account(live: LiveCluster, tmp_path: Path) -> None:
    stranger = replace(live.laptop, user="", password="")
    (tmp_path / "job.json").write_text(json.dumps({"tasks": [{"isolate_hash": "0" * 40, "description": "t"}]}))
    with pytest.raises(ClientFailed, match="status 1"):
        stranger.run("submit", "--no-wait", str(tmp_path / "job.json"))


def test_an_address_that_somebody_only_claims_to_have_counts_for_nothing(laptop: Laptop) -> None:
    forged = ["X-Forwarded-For=127.0.0.1", "Forwarded=for=127.0.0.1", "X-Real-IP=127.0.0.1"]
    assert ask(laptop, "/cancel_job", "job_id=none", *forged)[0] == "401"


def test_another_name_is_not_served(laptop: Laptop) -> None:
    assert ask(laptop, "/", "", "Host=evil.example")[0] == "421"


def test_plain_http_leads_to_https(laptop: Laptop) -> None:
    plain = laptop.url.replace("https:", "http:")
    assert ask(laptop, f"{plain}/job?job_id=x") == ["308", f"{laptop.url}/job?job_id=x"]


# --- Big files --------------------------------------------------------------------------------------------------------


def test_a_gigabyte_goes_up_and_comes_back_without_being_held_in_memory(
    live: LiveCluster, tmp_path_factory: pytest.TempPathFactory, phase: Phase
) -> None:
    laptop, directory = live.laptop, live.bed.state_dir / "big"  # on a disk
    directory.mkdir(exist_ok=True)
    big, copy = directory / "big.bin", directory / "copy.bin"
    digest = write_random(big)
    words = ["--namespace", "default", "--root", str(directory), str(big)]
    try:
        with phase("a gigabyte up"), growth(live.bed.host("master1")) as up:
            laptop.run("isolate", "archive", *words)
        with phase("a gigabyte down"), growth(live.bed.host("master1")) as down:
            laptop.run("isolate", "download", "--namespace", "default", "--file", digest, str(copy))
        assert sha1(copy) == digest
    finally:
        big.unlink()
        copy.unlink(missing_ok=True)
    assert max([*up(), *down()]) < _MAX_GROWTH_BYTES


def write_random(path: Path) -> str:
    digest = hashlib.sha1(usedforsecurity=False)
    with path.open("wb") as stream:
        for _ in range(_BIG_BYTES // _MIB):
            chunk = os.urandom(_MIB)
            digest.update(chunk)
            stream.write(chunk)
    return digest.hexdigest()


def sha1(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha1").hexdigest()


@contextmanager
def growth(host: Machine) -> Iterator[Callable[[], Sequence[int]]]:
    """While it lasts, sample the servers' memory; afterwards, how many bytes each sample was above the first."""
    stop, samples = threading.Event(), [resident(host)]

    def sample() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            samples.append(resident(host))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield lambda: [found - samples[0] for found in samples]
    finally:
        stop.set()
        thread.join()


def resident(host: Machine) -> int:
    """Memory of nginx and the isolate server, and what nginx has put into files instead."""
    script = "ps -eo rss=,args= | grep -E '[n]ginx|[d]ist-test-isolate' | awk '{sum += $1} END {print sum}'"
    kilobytes, files = host.ssh(f"{script}; sudo du -sk /var/lib/nginx | cut -f 1").split()
    return (int(kilobytes) + int(files)) * 1024
