"""Upgrades in the middle of a job, and back: nothing is lost, and a release that does not work does not stay."""

from collections.abc import Sequence
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.testbed.bed import HOSTS, Bed
from tests.testbed.conftest import Phase
from tests.testbed.laptop import Laptop
from tests.testbed.live import LiveCluster, RunningJob, wait
from tests.testbed.releases import Checkout, Run

pytestmark = pytest.mark.full

_TASKS = 60
_JOB_SECONDS = 600


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout.of_last_release(tmp_path_factory.mktemp("old") / "checkout")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout.of_now(tmp_path_factory.mktemp("new") / "checkout")
    checkout.raise_version("99.0.0")
    checkout.add_migration()
    return checkout


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout.of_now(tmp_path_factory.mktemp("broken") / "checkout")
    checkout.raise_version("99.0.1")
    checkout.add_migration()
    checkout.break_slave()
    return checkout


@pytest.fixture(scope="module")
def cluster(bed: Bed, old: Checkout, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> LiveCluster:
    """Deployed from the old checkout."""
    with phase("deployment of the release before"):
        old.deploy("pyinfra")
    return LiveCluster(bed=bed, laptop=Laptop.beside(bed, tmp_path_factory.mktemp("laptop")))


def upgrade_at_work(cluster: LiveCluster, checkout: Checkout, tool: str) -> tuple[Run, Sequence[RunningJob]]:
    """Upgrade while one job follows the other, so that there is work at each moment, however long it takes."""
    digests = [cluster.archive(f"sleep {seconds}; echo done") for seconds in (2, 3, 4)]
    tasks = [{"isolate_hash": digests[n % 3], "description": f"task{n}", "timeout": 60} for n in range(_TASKS)]
    jobs = [cluster.submit(tasks)]
    wait(lambda: cluster.running_on(jobs[0], "slave1") > 0 and cluster.running_on(jobs[0], "slave2") > 0, 60)
    with ThreadPoolExecutor(max_workers=1) as pool:
        upgrade = pool.submit(checkout.upgrade, tool)
        while not upgrade.done():
            if jobs[-1].client.poll() is not None:
                jobs.append(cluster.submit(tasks))
            futures.wait([upgrade], timeout=1)
    return upgrade.result(), jobs


def assert_nothing_was_lost(cluster: LiveCluster, jobs: Sequence[RunningJob]) -> None:
    """Each task ran once, well, and the books agree."""
    expected = sorted((f"task{n}", "succeeded") for n in range(_TASKS))
    for job in jobs:
        status = job.exit_status(_JOB_SECONDS)
        attempts = sorted((attempt["description"], attempt["outcome"]) for attempt in cluster.attempts(job.job_id))
        assert attempts == expected, job.said
        assert status == 0, job.said
    cluster.audit()


def versions(cluster: LiveCluster) -> set[str]:
    """Of the programs on all hosts that have some, and of the slaves that run."""
    hosts = [name for name in HOSTS if name != "queue1"]
    installed = {
        cluster.bed.host(name).ssh("/opt/dist_test/current/bin/dist-test --version").split()[-1] for name in hosts
    }
    return installed | {slave["version"] for slave in cluster.laptop.get("/api/v1/slaves")["slaves"]}


def test_upgrade_and_way_back_lose_nothing_and_leave_what_the_site_would(
    cluster: LiveCluster, old: Checkout, new: Checkout, phase: Phase
) -> None:
    before = versions(cluster)
    _move(cluster, new, "ansible", phase)
    assert versions(cluster) == {"99.0.0"}
    assert new.deploy("pyinfra") == []
    _move(cluster, old, "pyinfra", phase)
    assert versions(cluster) == before
    assert old.deploy("ansible") == []


def _move(cluster: LiveCluster, checkout: Checkout, tool: str, phase: Phase) -> None:
    with phase(f"upgrade with {tool}"):
        done, jobs = upgrade_at_work(cluster, checkout, tool)
    assert done.status == 0, done.said
    assert_nothing_was_lost(cluster, jobs)


@pytest.mark.parametrize("tool", ["ansible", "pyinfra"])
def test_all_hosts_go_back_when_a_slave_does_not_start(
    cluster: LiveCluster, broken: Checkout, old: Checkout, phase: Phase, tool: str
) -> None:
    before = versions(cluster)
    with phase(f"upgrade to a broken release with {tool}"):
        done, jobs = upgrade_at_work(cluster, broken, tool)
    assert done.status != 0
    assert "slave1" in done.said
    assert "schema of the database stays" in done.said
    assert versions(cluster) == before
    assert_nothing_was_lost(cluster, jobs)
    assert old.deploy("ansible") == []
