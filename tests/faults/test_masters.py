"""A master that dies in the middle of a submit: the same submit to another one makes one job, run once."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests

from dist_test.local.services import Master

from ..farm import Farm, wait
from .dying_master import POINTS

TASKS = 10


class DyingMaster(Master):
    """The master of dying_master.py."""

    name = "dying-master"
    point = ""

    def _command(self) -> Sequence[str]:
        return [sys.executable, str(Path(__file__).with_name("dying_master.py")), self.point]


def _dying_master(farm: Farm, point: str) -> DyingMaster:
    master = DyingMaster(farm.directory / "dying", farm.files.service_configuration)
    master.point = point
    farm.others.append(master)
    master.reserve_ports()
    farm.configure(master={"bind": f"127.0.0.1:{master.port}"})
    master.start()
    farm.configure()
    return master


@pytest.mark.parametrize("point", POINTS)
def test_a_submit_cut_off_by_the_death_of_its_master_succeeds_once_elsewhere(
    farm: Farm, marks: Path, point: str
) -> None:
    farm.start()
    digest = farm.archive(f"mktemp {marks}/run.$DIST_TEST_TASK_ID.XXXXXX > /dev/null")
    tasks = [{"isolate_hash": digest, "description": f"t{number}"} for number in range(TASKS)]
    dying = _dying_master(farm, point)
    with pytest.raises(requests.ConnectionError):
        farm.submit("j", *tasks, url=f"http://127.0.0.1:{dying.port}")
    wait(lambda: not dying.is_running)

    answers = []

    def is_accepted() -> bool:
        answers.append(farm.submit("j", *tasks).status_code)
        return answers[-1] in (200, 201)

    wait(is_accepted)
    assert set(answers[:-1]) <= {503}, "it is being submitted, until the dead master's lease has lapsed"
    assert farm.submit("j", *tasks).status_code == 200
    assert farm.submit("j", *tasks[:-1]).status_code == 409
    farm.slave(slots=2)
    assert farm.wait_for_job("j")["result"] == "succeeded"
    assert len(farm.attempts("j")) == TASKS
    wait(lambda: farm.tube() == 0)
    runs = Counter(path.name.removeprefix("run.").rpartition(".")[0] for path in marks.glob("run.*"))
    assert sorted(runs.values()) == [1] * TASKS


@pytest.mark.parametrize("point", ["amid the puts", "after the puts"])
def test_a_stored_job_is_completed_even_when_nobody_submits_it_again(farm: Farm, point: str) -> None:
    farm.start()
    digest = farm.archive("exit 0")
    dying = _dying_master(farm, point)
    with pytest.raises(requests.ConnectionError):
        farm.submit("j", {"isolate_hash": digest, "description": "t"}, url=f"http://127.0.0.1:{dying.port}")
    farm.slave()
    assert farm.wait_for_job("j")["result"] == "succeeded"
