"""Pruning beside a cluster at work: old jobs go, and those that run, wait or are kept notice nothing."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import requests

from dist_test.local.program import beside_python
from dist_test.storage.results import Bucket

from ..accounts import OWNER
from ..farm import Farm, wait


def _task(digest: str, **fields: object) -> dict[str, Any]:
    return {"isolate_hash": digest, "description": "test", "max_retries": 0, **fields}


def _prune(farm: Farm, program: str, account: str) -> str:
    """Run a prune as its timer does: with an account of its own."""
    login = farm.accounts[account]
    environ = os.environ | {
        "DIST_TEST_CNF": str(farm.files.service_configuration),
        "MYSQL_USER": login.user,
        "MYSQL_PWD": login.password,
    }
    command = [beside_python(program), "prune", "--older-than", "30d"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=120).stdout


def _blobs(farm: Farm) -> dict[str, Path]:
    return {path.name: path for path in farm.directory.glob("blobs/blobs/*/*/*")}


def _results(bucket: Bucket, job_id: str) -> int:
    return len(list(bucket.list(f"{job_id}/")))


def test_old_jobs_go_while_others_run_wait_or_are_kept(farm: Farm, marks: Path) -> None:
    farm.start()
    old, kept = farm.archive("echo old; exit 1"), farm.archive("echo kept; exit 1")
    live = farm.archive(f"echo $$; touch {marks}/begun; while [ ! -e {marks}/go ]; do sleep 0.05; done")
    waiting = farm.archive("echo waiting")
    farm.slave()
    for job_id, digest in (("old", old), ("kept", kept)):
        assert farm.submit(job_id, _task(digest)).ok
        farm.wait_for_job(job_id)
    farm.submit("live", _task(live))
    wait((marks / "begun").exists)
    farm.submit("waiting", _task(waiting))
    farm.sql("UPDATE jobs SET finished_at = finished_at - INTERVAL 40 DAY WHERE job_id = 'old'")
    for path in _blobs(farm).values():
        os.utime(path, (time.time() - 100 * 86400,) * 2)

    assert _prune(farm, "dist-test-master", OWNER).startswith("removed 1 job with 1 attempt and 2 objects")
    assert _prune(farm, "dist-test-isolate", "isolate").startswith("removed 3 of 12 blobs")

    assert old not in _blobs(farm)
    assert {kept, live, waiting} <= set(_blobs(farm))
    assert _results(farm.bucket, "old") == 0
    assert _results(farm.bucket, "kept") == 2
    for page, words in (
        ("/api/v1/jobs/old", "no job has the id old"),
        ("/job?job_id=old", "ended long ago is removed"),
    ):
        answer = requests.get(f"{farm.url}{page}", timeout=30)
        assert answer.status_code == 404
        assert words in answer.text

    (marks / "go").touch()
    assert [farm.wait_for_job(job_id)["result"] for job_id in ("live", "waiting")] == ["succeeded", "succeeded"]
    # What a slave has fetched before it would not ask for.
    farm.slaves[0].stop()
    for path in farm.files.cache_dir.rglob("*"):
        if path.is_file():
            path.unlink()
    farm.slave()
    again = requests.post(f"{farm.url}/api/v1/jobs/kept/rerun", json={}, timeout=30).json()
    assert farm.wait_for_job(again["job_id"])["result"] == "failed"
    assert [attempt["outcome"] for attempt in farm.attempts(again["job_id"])] == ["failed"]
    assert "breach" not in farm.operate("audit")
    # The id of a job that is gone is free.
    assert farm.submit("old", _task(kept)).ok
    assert farm.wait_for_job("old")["result"] == "failed"
