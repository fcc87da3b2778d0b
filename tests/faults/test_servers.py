"""Servers that freeze, lose connections, fill up or hand out damage: no job hangs, and no test is blamed for it."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from dist_test.isolate.blob import LocalBlob
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.digest import digest_bytes
from dist_test.local.services import Master

from ..accounts import administer
from ..farm import Farm, wait

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts a small disk")


def _task(digest: str, description: str = "t", **fields: object) -> dict[str, object]:
    return {"isolate_hash": digest, "description": description, **fields}


def _await(marks: Path, name: str) -> str:
    """A line of a script that waits for a mark."""
    return f"while [ ! -e {marks}/{name} ]; do sleep 0.05; done"


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Farm]:
    """A cluster with one slave, for tests that leave it as it was."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-farm-", dir="/var/tmp"))
    farm = Farm(directory)
    farm.start(slave={"quarantine_seconds": "0.2", "lease_seconds": "20"})
    farm.slave()
    yield farm
    farm.stop()
    shutil.rmtree(directory)


def test_while_s3_is_frozen_the_next_task_runs_and_no_log_is_lost(cluster: Farm, marks: Path) -> None:
    digest = cluster.archive(f"touch {marks}/ran$DIST_TEST_TASK_ID; echo out of ${{DIST_TEST_TASK_ID##*.}}; exit 1")
    with _frozen(cluster.seaweedfs.pid):
        cluster.submit("s3", _task(digest, "one"), _task(digest, "two"), _task(digest, "three"))
        wait(lambda: len(list(marks.iterdir())) == 3)
        assert cluster.job("s3")["counters"]["finished_attempts"] == 0, "a result comes with its log"
    cluster.wait_for_job("s3")
    attempts = cluster.attempts("s3")
    assert [(attempt["outcome"], attempt["logs_lost"]) for attempt in attempts] == [("failed", False)] * 3
    logs = [requests.get(attempt["stdout_url"], timeout=30).text for attempt in attempts]
    assert logs == ["out of 0\n", "out of 1\n", "out of 2\n"]


def test_cut_connections_to_mysql_cost_no_result_and_repeat_none(cluster: Farm, marks: Path) -> None:
    count = 30
    digest = cluster.archive(f"mktemp {marks}/run.$DIST_TEST_TASK_ID.XXXXXX > /dev/null")
    cluster.submit("cut", *[_task(digest, f"t{number}") for number in range(count)])
    account = cluster.accounts["slave"].user
    while cluster.job("cut")["state"] != "finished":
        administer(cluster.mariadb, f"KILL CONNECTION USER '{account}'")  # in the middle of whatever the slave does
    assert "Repeating a transaction" in cluster.slaves[0].log_path.read_text()
    assert cluster.job("cut")["result"] == "succeeded"
    assert sorted(path.name.split(".")[-2] for path in marks.iterdir()) == sorted(map(str, range(count)))
    assert [attempt["attempt"] for attempt in cluster.attempts("cut")] == [0] * count


def test_a_damaged_blob_fails_the_setup_and_uses_up_no_retry(cluster: Farm) -> None:
    digest = cluster.archive("echo to be damaged")
    [blob] = (cluster.directory / "blobs").rglob(digest)
    stored = bytearray(blob.read_bytes())
    stored[len(stored) // 2] ^= 0xFF
    blob.write_bytes(stored)
    cluster.submit("damaged", _task(digest, max_retries=2))
    assert cluster.wait_for_job("damaged")["result"] == "failed"
    attempts = cluster.attempts("damaged")
    assert [attempt["outcome"] for attempt in attempts] == ["setup_failed"] * 3
    assert all(digest in attempt["message"] for attempt in attempts)


def test_without_the_isolate_server_setups_fail_and_the_next_job_after_it_is_back_runs(cluster: Farm) -> None:
    digest = cluster.archive("echo not in the cache")
    cluster.isolate.kill()
    try:
        cluster.submit("down", _task(digest, max_retries=2))
        cluster.wait_for_job("down")
    finally:
        cluster.isolate.start()
    assert [attempt["outcome"] for attempt in cluster.attempts("down")] == ["setup_failed"] * 3
    cluster.submit("up", _task(digest))
    assert cluster.wait_for_job("up")["result"] == "succeeded"


@pytest.mark.parametrize(
    ("job_id", "files"),
    [
        ("dots", {"../../evil": {"m": 420}}),
        ("absolute", {"/var/tmp/dist_test-evil": {"m": 420}}),
        ("link", {"out": {"l": "/var/tmp"}, "out/dist_test-evil": {"m": 420}}),
    ],
)
def test_a_tree_that_leads_out_of_its_directory_is_refused_by_the_slave(
    cluster: Farm, job_id: str, files: dict[str, dict[str, object]]
) -> None:
    evil = LocalBlob(digest=digest_bytes(b"evil"), size_bytes=4, content=b"evil")
    named = {path: file if "l" in file else {**file, "h": evil.digest, "s": 4} for path, file in files.items()}
    text = json.dumps({"algo": "sha-1", "version": "1.4", "command": ["true"], "files": named}).encode()
    document = LocalBlob(digest=digest_bytes(text), size_bytes=len(text), content=text, is_isolated=True)
    with closing(IsolateClient(f"http://127.0.0.1:{cluster.isolate.port}")) as client:
        client.upload([evil, document])
    cluster.submit(job_id, _task(document.digest))
    cluster.wait_for_job(job_id)
    attempts = cluster.attempts(job_id)
    assert [attempt["outcome"] for attempt in attempts] == ["setup_failed"] * 3
    assert all(next(iter(files)) in attempt["message"] for attempt in attempts)
    assert [*Path("/var/tmp").glob("*evil*"), *cluster.directory.rglob("*evil*")] == []


@needs_root
def test_a_task_finds_no_credentials_of_the_cluster(cluster: Farm) -> None:
    script = f"""
        env
        cat {cluster.slave_configuration} {cluster.files.service_configuration} {cluster.files.client_configuration}
        cat /proc/[0-9]*/environ | tr '\\0' '\\n'
        grep -rs . {cluster.directory}/slave-0 {cluster.directory}/blobs {cluster.directory}/seaweedfs
        find {cluster.directory} -type f -writable -not -path '*/slot0/t/*' | sed 's/^/writable: /'
        exit 1
    """
    cluster.submit("snoop", _task(cluster.archive(script)))
    cluster.wait_for_job("snoop")
    [attempt] = cluster.attempts("snoop")
    out, err = (requests.get(attempt[key], timeout=30).text for key in ("stdout_url", "stderr_url"))
    secrets = [cluster.accounts["slave"].password, cluster.mariadb.password, cluster.seaweedfs.secret_key]
    assert [secret for secret in secrets if secret in out + err] == []
    assert "DIST_TEST_CNF" not in out
    assert "writable: " not in out
    assert err.count(".cnf: Permission denied") == 3
    assert "DIST_TEST_ATTEMPT=0" in out, "it did look around"


@needs_root
def test_a_full_disk_drops_old_blobs_and_refuses_what_can_never_fit(farm: Farm, marks: Path) -> None:
    disk = farm.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", disk], check=True)
    try:
        farm.start(isolate={"cache_dir": str(disk / "cache"), "cache_min_free_bytes": "4M"})
        farm.slave()
        script = f"stat -c %s data > {marks}/$DIST_TEST_JOB_ID"
        for number in range(3):  # the third fits only in the place of the first
            farm.submit(f"fits{number}", _task(farm.archive(script, data=os.urandom(8 * 2**20))))
            assert farm.wait_for_job(f"fits{number}")["result"] == "succeeded"
        farm.submit("huge", _task(farm.archive(script, data=os.urandom(30 * 2**20))))
        farm.wait_for_job("huge")
        assert {attempt["outcome"] for attempt in farm.attempts("huge")} == {"setup_failed"}
        message = farm.attempts("huge")[0]["message"]
        print(message)
        assert str(30 * 2**20 // 1000)[:2] in message
        free = os.statvfs(disk)
        assert free.f_bavail * free.f_frsize >= 4 * 2**20
    finally:
        farm.stop()
        subprocess.run(["umount", disk], check=True)
    assert sorted(path.name for path in marks.iterdir()) == ["fits0", "fits1", "fits2"]


def test_a_database_that_freezes_for_longer_than_a_lease_has_the_slave_stop_its_task(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    script = f"mktemp {marks}/run.XXXXXX > /dev/null; [ $(ls {marks} | wc -l) -gt 1 ] || exec sleep 4242.4242"
    farm.submit("j", _task(farm.archive(script)))
    wait(lambda: _is_asleep() and len(list(marks.iterdir())) == 1)
    with _frozen(farm.mariadb.pid):
        began = time.monotonic()
        wait(lambda: not _is_asleep(), 40)
        seconds = time.monotonic() - began
    print(f"with a lease of 4 s the task was stopped {seconds:.1f} s after the database froze")
    assert farm.wait_for_job("j")["result"] == "succeeded"
    assert [attempt["attempt"] for attempt in farm.attempts("j")] == [0]
    assert len(list(marks.iterdir())) == 2


def _is_asleep() -> bool:
    """Whether the command of the test above runs anywhere."""
    return subprocess.run(["pgrep", "-f", "^sleep 4242.4242$"], stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_master_that_is_dead_when_a_test_fails_puts_its_retry_once_it_is_back(farm: Farm, marks: Path) -> None:
    farm.start()
    farm.slave()
    script = f"touch {marks}/began; {_await(marks, 'go')}; [ $DIST_TEST_ATTEMPT = 1 ]"
    farm.submit("j", _task(farm.archive(script), max_retries=1))
    wait(lambda: (marks / "began").exists())
    farm.master.kill()
    (marks / "go").touch()
    rows = "SELECT attempt, outcome FROM attempts ORDER BY attempt"
    wait(lambda: farm.sql(rows) == [(0, "failed"), (1, None)])
    farm.master.start()
    job = farm.wait_for_job("j")
    assert (job["result"], job["counters"]["flaky_tasks"], job["counters"]["total_attempts"]) == ("succeeded", 1, 2)


def test_another_master_mends_what_was_lost_when_the_one_that_did_is_dead(farm: Farm) -> None:
    farm.start()
    second = Master(farm.directory / "second", farm.files.service_configuration)
    second.reserve_ports()
    farm.configure(master={"bind": f"127.0.0.1:{second.port}"})
    farm.others.append(farm.master)
    second.start()
    farm.configure()
    count = 5
    digest = farm.archive("exit 0")
    farm.submit("j", *[_task(digest, f"t{number}") for number in range(count)])
    farm.master.kill()
    farm.master = second
    farm.beanstalkd.kill()
    farm.beanstalkd.wipe()
    farm.beanstalkd.start()
    wait(lambda: farm.tube() == count)
    farm.slave()
    assert farm.wait_for_job("j")["result"] == "succeeded"
    assert farm.sql("SELECT COUNT(*) FROM events WHERE kind = 'repaired'") == [(count,)]
