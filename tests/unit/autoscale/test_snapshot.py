"""The snapshot file: what may be left out, and what is refused with its path."""

import copy
import json
from typing import Any

import pytest

from dist_test.errors import ConfigurationError, InvalidSnapshot
from dist_test_autoscale.snapshot import read_case
from dist_test_autoscale.state import State
from tests.unit.autoscale.worlds import Document, busy, creating, decision_of, group, job, queue, with_slaves, world

# As the contract writes it.
CONTRACT: Document = json.loads("""
{"config": {"size": {"target_drain_s": 600, "wait_value": 0},
            "group": [{"name": "spot-b", "zone": "z", "priority": 0, "spot": true, "min": 0, "max": 100}]},
 "now": 1000.0, "leader": true, "boot_s": 90,
 "queue": {"ready": 0, "reserved": 0, "delayed": 0, "buried": 0, "paused": false, "server_id": "a", "at": 1000.0},
 "jobs": [{"job_id": "j", "ready_n": 1, "ready_s": 60, "running_n": 0, "running_left_s": 0, "longest_s": 60}],
 "slaves": [{"name": "i0", "instance_id": "id-i0", "slots": 1, "busy": 0, "state": "up", "want": "run",
             "lease_held": false, "heartbeat": 995.0, "idle_since": 400.0, "started": 0}],
 "groups": [{"name": "spot-b", "target": 1, "ok": true, "autoscaler": false,
             "instances": [{"name": "i0", "id": "id-i0", "action": "NONE", "status": "RUNNING", "first_seen": 0,
                            "errors": [], "old_template": false}]}],
 "state": null}
""")


def changed(path: str, value: Any = ...) -> Document:
    """The contract's example with one value changed, or without it."""
    document = copy.deepcopy(CONTRACT)
    *parents, last = path.split(".")
    place: Any = document
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_the_contracts_example_is_decided() -> None:
    answer = decision_of(CONTRACT).to_document()
    assert list(answer) == ["hold", "desired", "capacity", "reasons", "actions", "state"]
    assert (answer["hold"], answer["desired"], answer["capacity"], answer["actions"]) == (None, 1, 1, [])
    assert all(isinstance(reason, str) for reason in answer["reasons"])


@pytest.mark.parametrize(
    "path",
    [
        "leader",
        "boot_s",
        "state",
        "queue.paused",
        "slaves.0.slots",
        "slaves.0.want",
        "slaves.0.lease_held",
        "groups.0.instances.0.errors",
    ],
)
def test_what_may_be_left_out_is_as_the_example_says(path: str) -> None:
    assert read_case(changed(path)) == read_case(CONTRACT)


def test_slots_that_are_not_said_are_the_configurations() -> None:
    document = changed("slaves.0.slots")
    document["config"]["size"]["slots_per_slave"] = 4
    snapshot = read_case(document).snapshot
    assert snapshot.slaves is not None
    assert snapshot.slaves[0].slots == 4


def test_a_time_to_boot_that_is_not_said_is_the_configurations() -> None:
    document = changed("boot_s")
    document["config"]["out"] = {"boot_s_default": 33}
    assert read_case(document).snapshot.boot_s == 33


@pytest.mark.parametrize("path", ["queue", "jobs", "slaves"])
def test_null_is_what_could_not_be_read(path: str) -> None:
    assert getattr(read_case(changed(path, None)).snapshot, path) is None


def test_errors_may_be_codes_or_what_the_api_gives() -> None:
    document = changed("groups.0.instances.0.errors", ["A", {"code": "B", "message": "no stock"}])
    assert read_case(document).snapshot.groups[0].instances[0].errors == ("A", "B")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param(changed("now"), "now is missing", id="no time"),
        pytest.param(changed("queue"), "queue is missing", id="no queue, not even null"),
        pytest.param(changed("slaves.0.busy"), "slaves[0].busy is missing", id="a slave that is half told"),
        pytest.param(
            changed("slaves.0.lease_hold", True),
            "slaves[0].lease_hold is not known; known are busy, heartbeat, idle_since",
            id="a slip of the pen",
        ),
        pytest.param(
            changed("slaves.0.busy", -1), "slaves[0].busy is -1: give a whole number, 0 or more", id="less than none"
        ),
        pytest.param(
            changed("slaves.0.state", "UP"),
            "slaves[0].state is 'UP': give one of up, draining, drained, preempted, quarantined",
            id="an unknown state",
        ),
        pytest.param(
            changed("jobs.0.ready_s", float("nan")), "jobs[0].ready_s is nan: give a number", id="not a number"
        ),
        pytest.param(changed("jobs", {}), "jobs is {}: give a list", id="an object for a list"),
        pytest.param(
            changed("groups.0.instances", [5]), "groups[0].instances[0] is 5: give an object", id="a number for one"
        ),
        pytest.param(changed("leader", 1), "leader is 1: give true or false", id="a number for a truth"),
        pytest.param(changed("state", {}), "state.wanted is missing", id="a state that is none"),
        pytest.param([], "is []: give an object", id="no object at all"),
    ],
)
def test_what_is_wrong_is_named_with_its_path(document: Any, message: str) -> None:
    with pytest.raises(InvalidSnapshot) as caught:
        read_case(document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "config.group is empty: name at least one managed instance group"),
        ({"size": {"max_totl": 1}}, "config.size.max_totl is not known; did you mean max_total?"),
        ([], "config is []: give a table"),
    ],
)
def test_the_config_is_checked_as_the_file_is(config: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_case(changed("config", config))
    assert message in str(caught.value).splitlines()


def test_any_key_of_the_configuration_file_may_be_there() -> None:
    document = changed("config.interval_s", 5)
    document["config"] |= {"project": "p", "listen": "127.0.0.1:1", "mysql": {"host": "db"}, "queue": {}}
    assert read_case(document) == read_case(CONTRACT)


def test_a_state_survives_its_json() -> None:
    """One in which everything is remembered that there is."""
    failed = [creating(f"i{number}", age=100, errors=["QUOTA_EXCEEDED"]) for number in range(3)]
    first = world(queue=queue(50), jobs=[job(50)], groups=[group("spot-b", failed)])
    state = decision_of(first).to_document()["state"]
    drained = with_slaves([busy("i0"), busy("i1", want="drain")], state=state, queue=queue(50, server_id="b"))
    document = decision_of(drained).to_document()["state"]
    assert [name for name, value in document.items() if not value and name != "doubt_since"] == ["bought", "drained"]
    again = read_case(CONTRACT | {"state": document}).state
    assert again.to_document() == document
    assert again != State()
