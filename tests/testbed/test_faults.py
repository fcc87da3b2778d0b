"""Hosts that vanish in the middle of a job: it ends right all the same, and whoever waits for it is told so."""

import json
import time
import zipfile
from collections import defaultdict
from pathlib import Path

import pytest

from images.commands import run
from tests.testbed.bed import Bed
from tests.testbed.conftest import Phase
from tests.testbed.deployments import deploy_with_ansible
from tests.testbed.laptop import Laptop
from tests.testbed.live import LiveCluster, RunningJob, wait

pytestmark = pytest.mark.full

# Ansible's extra variables win over an inventory. With these a test need not wait for minutes.
_HASTY = {
    "slave_lease_seconds": 10,
    "slave_heartbeat_seconds": 2,
    "slave_slots": 2,
    "slave_drain_seconds": 60,
    "master_reconcile_seconds": 5,
    "master_queued_grace_seconds": 10,
}
_TASKS = 14
_FAILED_STATUS = 88
# An entry that its slave keeps reserved comes back after a minute; a master's host is set up anew in two.
_JOB_SECONDS = 400
_SCRIPT = """
echo "$DIST_TEST_TASK_ID wrote this" | tee result.txt; sleep 5
case $1 in fail) echo failed as it should >&2; exit 3;; flaky) [ "$DIST_TEST_ATTEMPT" -gt 0 ];; esac
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Given to the master, so that one on a new host is the same to its clients; the key lies beside it."""
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    address = Bed.from_environment().address("master1")
    subject = ["-subj", f"/CN={address}", "-addext", f"subjectAltName=IP:{address}", "-days", "2"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout"]
    run("openssl", "req", "-x509", *subject, "-out", path, *key, path.with_name("key.pem"))
    return path


@pytest.fixture(scope="module")
def deployed(bed: Bed, phase: Phase, certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveCluster:
    with phase("deployment with short leases"):
        deploy(certificate)
    return LiveCluster(bed=bed, laptop=Laptop.beside(bed, tmp_path_factory.mktemp("laptop")))


@pytest.fixture
def cluster(deployed: LiveCluster) -> LiveCluster:
    """Whole before the test, whatever the one before did."""
    deployed.become_whole()
    return deployed


def deploy(certificate: Path, *arguments: str) -> None:
    tls = {"master_tls_certificate": str(certificate), "master_tls_key": str(certificate.with_name("key.pem"))}
    deploy_with_ansible("testbed", "-e", json.dumps(_HASTY | tls), *arguments)


def submit(cluster: LiveCluster) -> RunningJob:
    """A job of many tasks that succeed, one that fails and one that fails once; returns in the midst of it."""
    kinds = [*["pass"] * (_TASKS - 2), "fail", "flaky"]
    digests = {kind: cluster.archive(f"set -- {kind}; {_SCRIPT}") for kind in set(kinds)}
    common = {"artifact_archive_globs": ["result.txt"], "timeout": 120}
    retries = {"pass": 3, "fail": 0, "flaky": 3}
    job = cluster.submit(
        [
            common | {"isolate_hash": digests[kind], "description": f"{kind}{n}", "max_retries": retries[kind]}
            for n, kind in enumerate(kinds)
        ]
    )
    wait(lambda: cluster.running_on(job, "slave1") > 0 and cluster.running_on(job, "slave2") > 0, 60)
    return job


def assert_job_ended_right(cluster: LiveCluster, job: RunningJob) -> None:
    """Each task has the results that it must have and no other, all of them can be read, and the books agree."""
    status = job.exit_status(_JOB_SECONDS)
    outcomes = defaultdict(list)
    attempts = cluster.attempts(job.job_id)
    for attempt in attempts:
        outcomes[attempt["description"]].append(attempt["outcome"])
    passing = {f"pass{n}": ["succeeded"] for n in range(_TASKS - 2)}
    failing = {f"fail{_TASKS - 2}": ["failed"], f"flaky{_TASKS - 1}": ["failed", "succeeded"]}
    assert outcomes == passing | failing, f"{attempts}\n{job.said}"
    assert status == _FAILED_STATUS, job.said
    assert [attempt for attempt in attempts if attempt["logs_lost"]] == []
    assert_all_was_fetched(job, len(attempts))
    cluster.audit()


def assert_all_was_fetched(job: RunningJob, attempts: int) -> None:
    zips = list(job.results_dir.glob("*.zip"))
    assert len(zips) == attempts, job.said
    assert {zipfile.ZipFile(path).read("result.txt").split()[-1] for path in zips} == {b"this"}
    failed = list(job.results_dir.glob("*.fail*.stderr"))
    assert [path.read_text() for path in failed] == ["failed as it should\n"]


def test_tasks_of_a_slave_that_lost_its_power_run_elsewhere(cluster: LiveCluster) -> None:
    job = submit(cluster)
    cluster.bed.power_off(["slave1"])
    assert_job_ended_right(cluster, job)
    assert {attempt["slave_id"] for attempt in cluster.attempts(job.job_id)} >= {"slave2"}


@pytest.mark.parametrize("name", ["queue1", "database1", "master1"])
def test_job_ends_right_when_the_host_reboots_without_warning(cluster: LiveCluster, name: str) -> None:
    job = submit(cluster)
    cluster.bed.power_off([name])
    cluster.bed.up([name])
    assert_job_ended_right(cluster, job)


@pytest.mark.parametrize("name", ["queue1", "database1"])
def test_job_ends_right_when_the_host_is_away_for_longer_than_leases_last(cluster: LiveCluster, name: str) -> None:
    """queue1 has the object store as well: what tasks wrote has to wait on the slaves."""
    job = submit(cluster)
    cluster.bed.power_off([name])
    time.sleep(3 * _HASTY["slave_lease_seconds"])
    cluster.bed.up([name])
    assert_job_ended_right(cluster, job)


def test_job_ends_right_when_the_master_is_replaced_by_an_empty_host(
    cluster: LiveCluster, certificate: Path, phase: Phase
) -> None:
    job = submit(cluster)
    cluster.bed.reset(["master1"])
    with phase("new master"):
        deploy(certificate)
    assert_job_ended_right(cluster, job)
