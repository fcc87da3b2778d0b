"""A dump brings back what was lost: finished results stay, what was to run is run, entries of lost jobs are not."""

import re

import pytest

from tests.testbed.bed import Bed
from tests.testbed.conftest import Phase
from tests.testbed.deployments import REPOSITORY, deploy_with_pyinfra
from tests.testbed.laptop import Laptop
from tests.testbed.live import LiveCluster, RunningJob, wait
from tests.testbed.releases import Checkout

pytestmark = pytest.mark.full

_HERE = Checkout(path=REPOSITORY)
_FILE = re.compile(r"dumped \S+ to (/\S+\.zst)")


@pytest.fixture(scope="module")
def cluster(bed: Bed, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> LiveCluster:
    with phase("deployment"):
        deploy_with_pyinfra("testbed")
    return LiveCluster(bed=bed, laptop=Laptop.beside(bed, tmp_path_factory.mktemp("laptop")))


def submit(cluster: LiveCluster, script: str, tasks: int) -> RunningJob:
    digest = cluster.archive(script)
    return cluster.submit([{"isolate_hash": digest, "description": f"task{n}"} for n in range(tasks)])


def damage(cluster: LiveCluster) -> None:
    statement = "SET FOREIGN_KEY_CHECKS = 0; DROP TABLE dist_test.attempts"
    cluster.bed.host("database1").ssh(f"sudo mariadb -e '{statement}'")


def dumped_file(said: str) -> str:
    found = _FILE.findall(said)
    assert found, said
    return str(found[-1])


@pytest.mark.parametrize("tool", ["ansible", "pyinfra"])
def test_restore_brings_back_what_was_there_and_what_was_to_run(cluster: LiveCluster, tool: str, phase: Phase) -> None:
    finished = submit(cluster, "echo a result", 2)
    assert finished.exit_status(120) == 0, finished.said
    waiting = submit(cluster, "sleep 5; echo ran", 8)
    wait(lambda: cluster.running_on(waiting) > 0, 60)
    with phase(f"backup with {tool}"):
        file = dumped_file(_HERE.play("backup") if tool == "ansible" else _HERE.operate("backup"))
    lost = submit(cluster, "sleep 60", 8)
    wait(lambda: bool(lost.job_id and cluster.attempts(lost.job_id)), 60)
    damage(cluster)
    with phase(f"restore with {tool}"):
        if tool == "ansible":
            _HERE.play("restore", "-e", f"restore_file={file}")
        else:
            _HERE.operate("restore", "--data", f"restore_file={file}")
    lost.leave()
    cluster.audit()
    assert [attempt["outcome"] for attempt in cluster.attempts(finished.job_id)] == ["succeeded"] * 2
    wait(lambda: all(attempt["state"] == "finished" for attempt in cluster.attempts(waiting.job_id)), 300)
    assert {attempt["outcome"] for attempt in cluster.attempts(waiting.job_id)} == {"succeeded"}
    waiting.leave()
    after = submit(cluster, "echo the number of a lost job, another command", 2)
    assert after.exit_status(120) == 0, after.said
    cluster.audit()
