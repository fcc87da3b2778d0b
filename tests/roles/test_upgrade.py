"""`make upgrade`: which hosts move when, and what happens after a failure."""

import pytest

from inventories.cluster import Cluster, ResolvedHost
from inventories.upgrade import Stage, Step, Upgrade, batch_size, moves, ways_back


def _cluster(**groups: tuple[str, ...]) -> Cluster:
    names = dict.fromkeys(name for members in groups.values() for name in members)
    hosts = {
        name: ResolvedHost(
            groups=tuple(group for group, members in groups.items() if name in members), connection={}, roles={}
        )
        for name in names
    }
    return Cluster(hosts=hosts, groups={"all": tuple(names), **groups})


SLAVES = ("s1", "s2", "s3")
CLUSTER = _cluster(
    database=("db",),
    queue=("q",),
    masters=("m1", "m2"),
    isolate_servers=("m1", "i1"),
    autoscaler=("m1", "a1"),
    slaves=SLAVES,
    backup=("db",),
)
SINGLE = _cluster(database=("all1",), queue=("all1",), masters=("all1",), slaves=("all1",), backup=("all1",))


@pytest.mark.parametrize(
    ("batch", "slaves", "size"),
    [("25%", 100, 25), ("25%", 2, 1), ("3", 100, 3), ("100%", 7, 7), ("10%", 39, 3)],
)
def test_a_batch_is_a_number_or_a_part_and_at_least_one(batch: str, slaves: int, size: int) -> None:
    assert batch_size(batch, slaves) == size


def test_state_moves_before_servers_one_by_one_before_slaves_in_batches() -> None:
    assert [(stage.step, stage.hosts) for stage in moves(CLUSTER, "2")] == [
        (Step.STATE, ("db", "q")),
        (Step.SERVER, ("m1",)),
        (Step.SERVER, ("m2",)),
        (Step.SERVER, ("i1",)),
        (Step.AUTOSCALER, ("m1",)),
        (Step.AUTOSCALER, ("a1",)),
        (Step.SLAVE, ("s1", "s2")),
        (Step.SLAVE, ("s3",)),
        (Step.BACKUP, ("db",)),
    ]


def test_a_host_that_is_everything_takes_each_step() -> None:
    steps = [stage.step for stage in moves(SINGLE, "25%")]

    assert steps == [Step.STATE, Step.SERVER, Step.SLAVE, Step.BACKUP]


def test_only_hosts_that_moved_go_back_and_slaves_before_servers() -> None:
    stages = ways_back(CLUSTER, ["db", "q", "m1", "m2", "i1", "s1", "s2"], "1")

    assert [stage.hosts for stage in stages] == [("s1",), ("s2",), ("m1",), ("m2",), ("i1",), ("db", "q")]


def test_a_host_that_is_everything_goes_back_once() -> None:
    assert [stage.hosts for stage in ways_back(SINGLE, ["all1"], "25%")] == [("all1",)]


class Runs:
    """Remembers stages; those that `fails` names fail."""

    def __init__(self, *fails: tuple[Step, str]) -> None:
        self.stages: list[tuple[Step, tuple[str, ...]]] = []
        self.said: list[str] = []
        self._fails = fails

    def __call__(self, stage: Stage) -> bool:
        self.stages.append((stage.step, stage.hosts))
        return not any(stage.step == step and host in stage.hosts for step, host in self._fails)

    def upgrade(self) -> bool:
        return Upgrade(CLUSTER, batch="2", run=self, say=self.said.append).upgrade()

    def steps(self, step: Step) -> list[tuple[str, ...]]:
        return [hosts for taken, hosts in self.stages if taken == step]


def test_what_was_kept_is_forgotten_when_all_have_moved() -> None:
    runs = Runs()

    assert runs.upgrade()

    assert [step for step, _ in runs.stages][-2:] == [Step.FORGET, Step.ACCOUNT]
    assert runs.steps(Step.BACK) == []


def test_nothing_moves_when_the_release_cannot_be_installed_everywhere() -> None:
    runs = Runs((Step.PREPARE, "s3"))

    assert not runs.upgrade()

    assert [step for step, _ in runs.stages] == [Step.PREPARE]


def test_no_batch_follows_one_that_failed_and_all_that_moved_go_back() -> None:
    runs = Runs((Step.SLAVE, "s2"))

    assert not runs.upgrade()

    assert runs.steps(Step.SLAVE) == [("s1", "s2")]
    assert runs.steps(Step.BACK) == [("s1", "s2"), ("m1",), ("m2",), ("i1",), ("db", "q", "a1")]
    assert runs.steps(Step.FORGET) == []
    assert "`slave` failed on s1, s2" in runs.said[0]


def test_a_host_that_does_not_go_back_keeps_no_other_from_it_and_is_named() -> None:
    runs = Runs((Step.SERVER, "m2"), (Step.BACK, "m1"))

    assert not runs.upgrade()

    assert runs.steps(Step.BACK) == [("m1",), ("m2",), ("db", "q")]
    assert "m1: DID NOT GO BACK, see above." in runs.said
