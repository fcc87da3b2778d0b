"""`plan --snapshot` with files that are odd and legal: each answer was worked out by hand from the rules."""

import json
from pathlib import Path
from typing import Any

import pytest

from dist_test_autoscale.command import main
from tests.unit.autoscale.worlds import (
    NOW,
    Document,
    busy,
    creating,
    group,
    group_settings,
    instance,
    job,
    queue,
    settings,
    slave,
    waiting,
    with_slaves,
    world,
)

EXHAUSTED = ["ZONE_RESOURCE_POOL_EXHAUSTED"]
BARE_INSTANCE = {"name": "i0", "first_seen": NOW - 10, "id": None, "status": None, "errors": None}


def idle(count: int, prefix: str = "i") -> list[Document]:
    return [slave(f"{prefix}{number}") for number in range(count)]


def running(*names: str) -> list[Document]:
    return [instance(name) for name in names]


def one_group(**keys: Any) -> Document:
    """A `config` whose only group has these keys."""
    return settings(group=[group_settings("spot-b", **keys)])


def groups_of(*names: str, **keys: Any) -> Document:
    """A `config` of groups of equal priority."""
    return settings(group=[group_settings(name, **keys) for name in names])


TWO = settings(group=[group_settings("spot-b"), group_settings("spot-c", priority=1)])
EIGHT = settings(size={"slots_per_slave": 8})
RESTING: Document = {
    "wanted": [], "bought": [], "drained": [], "hold_in_until": None, "server_id": "a", "drains": [],
    "doubt_since": None, "backoffs": {"spot-b": {"until": NOW + 50, "seconds": 300}},
}  # fmt: skip


def answer(tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Document) -> tuple[int, Document]:
    """What the program answers to a file, with its exit status."""
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(document))
    status = main(["plan", "--snapshot", str(path), "--json"])
    out = capsys.readouterr().out
    return status, json.loads(out) if out else {}


def in_words(actions: list[Document]) -> list[str]:
    words = []
    for action in actions:
        figures = [f"{action[key]:g}" for key in ("n", "seconds") if key in action]
        words.append(" ".join([action["kind"], action["group"], *action.get("names", figures)]))
    return words


@pytest.mark.parametrize(
    ("document", "desired", "capacity", "actions"),
    [
        # What is empty, null or left out.
        pytest.param(world(), 0, 0, [], id="empty lists"),
        pytest.param(
            world(**waiting(1), groups=[{"name": "spot-b", "target": 0}]), 1, 0, ["grow spot-b 1"], id="a bare group"
        ),
        pytest.param(
            world(groups=[{"name": "spot-b", "target": 1, "instances": [BARE_INSTANCE]}]), 0, 1, [],
            id="an instance of which little is known boots",
        ),
        pytest.param(
            world(queue={"ready": 1, "reserved": 0, "at": NOW}, jobs=[job(1)]), 1, 0, ["grow spot-b 1"],
            id="a queue without what is optional",
        ),
        pytest.param(
            world(queue=queue(0, 3)), 0, 0, [], id="entries that are reserved without rows occupy nothing"
        ),
        pytest.param(
            world(queue=queue(buried=5, delayed=5)), 0, 0, [], id="entries that are buried or delayed are no work"
        ),
        pytest.param(
            world(queue=queue(1, at=NOW + 5), jobs=[job(1)]), 1, 0, ["grow spot-b 1"], id="statistics that are ahead",
        ),
        pytest.param(
            with_slaves([slave("i0", heartbeat=NOW + 5)]), 0, 1, ["drain spot-b i0"], id="a heartbeat that is ahead"
        ),
        # Slaves without instances, instances without slaves.
        pytest.param(world(slaves=idle(3)), 0, 3, [], id="slaves of no group are never victims"),
        pytest.param(
            world(slaves=[slave("i0", heartbeat=NOW - 1000)]), 0, 0, [], id="a silent slave of no group is not there"
        ),
        pytest.param(
            world(slaves=[busy("i0")], groups=[group("spot-b", running("i0", "i1"))], queue=queue(0, 1),
                  jobs=[job(running=1)]),
            1, 1, ["delete spot-b i1"], id="a machine without a slave among others is a zombie",
        ),
        pytest.param(
            world(slaves=idle(1), groups=[group("spot-b", [instance("i0", id="")])]), 0, 1, [],
            id="an instance without id is not sure to be that slave's",
        ),
        pytest.param(
            world(slaves=[busy("i0", instance_id=None), busy("i1")], groups=[group("spot-b", running("i0", "i1"))],
                  queue=queue(0, 2), jobs=[job(running=2)]),
            2, 2, [], id="a slave that does not say its machine works, and its machine is no zombie",
        ),
        pytest.param(
            world(slaves=[slave("i0", instance_id="")], groups=[group("spot-b", running("i0"))]), 0, 1, [],
            id="a slave that does not say its machine is never drained",
        ),
        pytest.param(
            world(slaves=[slave("i0", instance_id="")], groups=[group("spot-b", [instance("i0", first_seen=NOW - 9)])]),
            0, 1, [], id="a slave that does not say its machine is not counted again as one that boots",
        ),
        # Two lives of one name.
        pytest.param(
            world(slaves=[busy("i0", instance_id="old", heartbeat=NOW - 900, lease_held=False), slave("i0")],
                  groups=[group("spot-b", running("i0"))]),
            0, 1, ["drain spot-b i0"], id="the row of a former life is of no interest",
        ),
        pytest.param(
            world(slaves=[busy("i0", instance_id="old")], groups=[group("spot-b", [creating("i0")])],
                  queue=queue(0, 1), jobs=[job(running=1)]),
            1, 1, [], id="a machine is made anew while its row is fresh",
        ),
        pytest.param(
            world(slaves=[busy("i0", instance_id="old"), busy("i1")], groups=[group("spot-b", running("i0", "i1"))],
                  queue=queue(0, 2), jobs=[job(running=2)]),
            2, 1, ["grow spot-b 1"], id="a machine whose name is at work is no zombie",
        ),
        pytest.param(
            world(slaves=[busy("i0", instance_id="old")], queue=queue(0, 1), jobs=[job(running=1)],
                  groups=[group("spot-b", [creating("i0", age=100, errors=EXHAUSTED)])]),
            1, 1, [], id="a machine that cannot be made anew waits until its name is silent",
        ),
        # What instances do.
        pytest.param(
            world(slaves=idle(1), groups=[group("spot-b", [instance("i0", action="DELETING")])]), 0, 0, [],
            id="what is being deleted is not there",
        ),
        pytest.param(
            world(slaves=idle(1), groups=[group("spot-b", [instance("i0", action="ABANDONING")])]), 0, 0, [],
            id="what is being abandoned is not there",
        ),
        pytest.param(
            world(groups=[group("spot-b", [instance("i0", status="SUSPENDED")])]), 0, 0, [],
            id="what is suspended is not there",
        ),
        pytest.param(
            world(groups=[group("spot-b", [instance("i0", action="VERIFYING", first_seen=NOW - 9)])]), 0, 1, [],
            id="what is being verified boots",
        ),
        pytest.param(
            with_slaves([slave("i0", state="preempted")], **waiting(1)), 1, 0, ["grow spot-b 1"],
            id="who is preempted takes no task",
        ),
        pytest.param(
            world(**waiting(100), groups=[group("spot-b", [creating("i0")], target=0)]), 12, 1, ["grow spot-b 11"],
            id="a target below what is listed",
        ),
        pytest.param(
            with_slaves([slave("i0", heartbeat=NOW - 1000), busy("i1"), busy("i2")], db_fresh_for=0), 0, 2, [],
            id="no zombie before the database was read for long",
        ),
        # Groups that are not ours to change now.
        pytest.param(
            world(**waiting(100), config=TWO, groups=[
                group("spot-b", [creating(f"b{n}", age=100, errors=EXHAUSTED) for n in range(12)], ok=False),
                group("spot-c", [])]),
            12, 0, ["grow spot-c 12"], id="what failed in a group that does not answer stays, and is no capacity",
        ),
        pytest.param(
            world(slaves=idle(4), config=TWO, groups=[
                group("spot-b", running("i0", "i1", "i2", "i3"), ok=False), group("spot-c", [])]),
            0, 4, [], id="the idle of a group that does not answer stay",
        ),
        pytest.param(
            world(slaves=[slave("i0", state="drained", want="drain")], config=TWO, groups=[
                group("spot-b", running("i0"), ok=False), group("spot-c", [])]),
            0, 0, [], id="the drained of a group that does not answer stay",
        ),
        pytest.param(
            world(slaves=idle(2), groups=[group("spot-b", []), group("theirs", running("i0", "i1"))]), 0, 2, [],
            id="a group that is not configured counts, and is left alone",
        ),
        pytest.param(world(**waiting(1), config=TWO), 1, 0, ["grow spot-b 1"], id="a group of which nothing is told"),
        pytest.param(
            world(**waiting(1), config=TWO, groups=[group("spot-b", []), group("spot-c", [])], state=RESTING),
            1, 0, ["grow spot-c 1"], id="the state says that a group rests",
        ),
        pytest.param(world(**waiting(1), state=RESTING), 1, 0, [], id="all groups rest"),
        # Minimums and maximums.
        pytest.param(world(config=one_group(min=3, max=3)), 3, 0, ["grow spot-b 3"], id="min is max, and none there"),
        pytest.param(
            with_slaves(idle(5), config=one_group(min=3, max=3)), 3, 5, ["drain spot-b i0 i1"], id="min is max, many"
        ),
        pytest.param(world(**waiting(9), config=one_group(max=0)), 2, 0, [], id="a group that may have none"),
        pytest.param(
            with_slaves(idle(2), **waiting(1), config=one_group(max=0)), 1, 2, ["drain spot-b i0"],
            id="a group that may have none any more gives back what no task waits for",
        ),
        pytest.param(
            world(config=settings(size={"max_total": 2}, group=[
                group_settings("spot-b", min=2), group_settings("spot-c", min=1)]),
                groups=[group("spot-b", []), group("spot-c", [])]),
            2, 0, ["grow spot-b 2"], id="all together may have fewer than their minimums",
        ),
        pytest.param(
            with_slaves(idle(6), config=settings(size={"max_total": 2})), 0, 6, ["drain spot-b i0 i1 i2"],
            id="more are there than may be",
        ),
        pytest.param(
            with_slaves([busy(f"i{n}") for n in range(6)], queue=queue(50, 6), jobs=[job(50, running=6)],
                        config=settings(size={"max_total": 2})),
            2, 6, [], id="more are there than may be, and all work",
        ),
        pytest.param(
            with_slaves([slave("i0", state="drained", want="drain"), slave("i1", state="drained", want="drain")],
                        config=one_group(min=2)),
            2, 0, ["undrain spot-b i0 i1"], id="drains that are taken back fill the minimum",
        ),
        pytest.param(
            world(config=settings(size={"min_total": 5}, group=[group_settings("spot-b", max=3), group_settings(
                "spot-c", priority=1, max=3)]), groups=[group("spot-b", []), group("spot-c", [])]),
            5, 0, ["grow spot-b 3", "grow spot-c 2"], id="a minimum of all together is spread",
        ),
        # Several groups of equal priority.
        pytest.param(
            world(**waiting(100), config=groups_of("a", "b", "c"), groups=[
                group("a", [creating("a0"), creating("a1")]), group("b", [creating("b0")]), group("c", [])]),
            12, 3, ["grow c 9"], id="of equal groups the smallest gives",
        ),
        pytest.param(
            world(**waiting(100), config=groups_of("a", "b", "c", max=3), groups=[
                group("a", []), group("b", []), group("c", [])]),
            12, 0, ["grow a 3", "grow b 3", "grow c 3"], id="equal groups are filled one after another",
        ),
        # A tube that is paused.
        pytest.param(
            with_slaves(idle(4), queue=queue(100, paused=True), jobs=[job(100)]), 4, 4, [], id="paused: nobody goes"
        ),
        pytest.param(
            with_slaves(idle(4), queue=queue(paused=True)), 0, 4, ["drain spot-b i0 i1"], id="paused, without work"
        ),
        pytest.param(
            world(queue=queue(9, paused=True), jobs=[job(9)], config=settings(size={"min_total": 3})),
            3, 0, ["grow spot-b 3"], id="paused: the minimum is bought",
        ),
        pytest.param(
            with_slaves([slave("i0", state="drained", want="drain")], queue=queue(9, paused=True), jobs=[job(9)]),
            0, 0, ["delete spot-b i0"], id="paused: a drain goes on",
        ),
        # Slots.
        pytest.param(world(**waiting(100), config=EIGHT), 2, 0, ["grow spot-b 2"], id="slots by eight"),
        pytest.param(
            with_slaves([busy("i0", slots=8)], queue=queue(3, 1), jobs=[job(3, running=1, left=30)], config=EIGHT),
            1, 1, [], id="a slave with slots left takes what waits",
        ),
        pytest.param(
            with_slaves([busy("i0", slots=8), slave("i1")], queue=queue(0, 1), jobs=[job(running=1)], config=EIGHT),
            1, 2, ["drain spot-b i1"], id="only a slave without any task goes",
        ),
        pytest.param(
            with_slaves([slave("i0", slots=2), slave("i1", slots=8)], config=settings(
                size={"slots_per_slave": 8, "min_total": 1})),
            1, 1, ["drain spot-b i0"], id="the small one goes where the big one is needed",
        ),
        pytest.param(
            world(slaves=[slave("metal", slots=3, instance_id="")], **waiting(1), config=EIGHT), 1, 0,
            ["grow spot-b 1"], id="three slots are not yet a slave of eight",
        ),
        # Figures.
        pytest.param(world(**waiting(100), boot_s=0), 10, 0, ["grow spot-b 10"], id="machines boot at once"),
        pytest.param(
            world(**waiting(100), boot_s=600), 100, 0, ["grow spot-b 100"], id="a boot takes as long as the work may"
        ),
        pytest.param(world(queue=queue(5), jobs=[job(5, each=0)]), 1, 0, ["grow spot-b 1"], id="tasks of no time"),
        pytest.param(
            world(queue=queue(5), jobs=[job(5, longest=0)], config=settings(size={"wait_value": 20})),
            5, 0, ["grow spot-b 5"], id="a longest task of no time",
        ),
        pytest.param(world(**waiting(1, each=3000)), 1, 0, ["grow spot-b 1"], id="a task longer than the target"),
        pytest.param(
            with_slaves([busy("i0")], queue=queue(5, 1), jobs=[job(running=1, left=30)]), 1, 1, [],
            id="entries of canceled tasks beside one that runs",
        ),
        pytest.param(
            with_slaves([busy("i0", state="draining", want="drain")], queue=queue(0, 1),
                        jobs=[job(running=1, left=30)]),
            0, 0, [], id="what runs where a drain goes on needs no other slave",
        ),
        pytest.param(
            with_slaves([busy("i0", state="draining", want="drain"), slave("i1")], queue=queue(1, 1),
                        jobs=[job(1, running=1, left=30)]),
            1, 1, [], id="what waits is taken by an idle one before a drain is taken back",
        ),
        pytest.param(
            with_slaves(idle(6), **waiting(6), config=settings(size={"wait_value": 20})), 6, 6, [], id="just enough"
        ),
        # Budgets.
        pytest.param(
            with_slaves(idle(10), config=settings() | {"in": {"max_fraction": 0.01}}), 0, 10, ["drain spot-b i0"],
            id="of a small fraction one goes",
        ),
        pytest.param(
            with_slaves(idle(10), state=RESTING | {"drained": [[NOW - 59, 39]]}), 0, 10, ["drain spot-b i0"],
            id="the state says that the minute is nearly used up",
        ),
        pytest.param(
            with_slaves(idle(10), state=RESTING | {"hold_in_until": NOW + 1}), 0, 10, [], id="the state keeps all"
        ),
        pytest.param(
            with_slaves(idle(10), state=RESTING | {"server_id": "b"}), 0, 10, [], id="another beanstalkd"
        ),
        pytest.param(
            with_slaves(idle(10), state=RESTING | {"wanted": [[NOW - 299, 9]]}), 0, 10, ["drain spot-b i0"],
            id="the state says how many were wanted",
        ),
        # Slaves that are of no use.
        pytest.param(
            with_slaves([slave("i0", state="quarantined"), slave("i1", state="quarantined")], **waiting(100),
                        config=one_group(max=2)),
            12, 0, ["drain spot-b i0"], id="those in quarantine make room where work waits",
        ),
        pytest.param(
            world(**waiting(9), groups=[group("spot-b", [instance("i0", first_seen=300.0)])],
                  state=RESTING | {"backoffs": {"spot-b": {"until": NOW - 10, "seconds": 300}}}),
            2, 0, ["grow spot-b 1"], id="after its rest a group whose machines became no slaves is tried with one",
        ),
        pytest.param(
            world(**waiting(100), groups=[group("spot-b", [instance("i0", first_seen=300.0), creating("i1")])],
                  state=RESTING | {"backoffs": {"spot-b": {"until": NOW - 10, "seconds": 300}}}),
            12, 1, [], id="and not with another as long as that one boots",
        ),
    ],
)  # fmt: skip
def test_an_odd_snapshot_has_one_right_answer(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    document: Document,
    desired: int,
    capacity: int,
    actions: list[str],
) -> None:
    status, found = answer(tmp_path, capsys, document)
    assert (found["hold"], found["desired"], found["capacity"]) == (None, desired, capacity), found["reasons"]
    assert in_words(found["actions"]) == actions, found["reasons"]
    assert status == (10 if actions else 0)


@pytest.mark.parametrize(
    ("document", "hold"),
    [
        pytest.param(
            with_slaves(idle(4), leader=False, queue=None, jobs=None), "not_leader", id="another leads, blindly"
        ),
        pytest.param(with_slaves(idle(4), queue=None, jobs=None), "stale_queue", id="neither queue nor rows"),
        pytest.param(world(slaves=None, jobs=None), "stale_db", id="no database"),
        pytest.param(world(queue=queue(missing=True), jobs=[job(running=1)]), "queue_missing", id="no tube, one runs"),
        pytest.param(world(**waiting(1), groups=[group("theirs", [])]), "no_usable_group", id="no group of ours"),
        pytest.param(
            world(
                **waiting(1), config=TWO, groups=[group("spot-b", [], ok=False), group("spot-c", [], autoscaler=True)]
            ),
            "no_usable_group",
            id="one group is down and Google sizes the other",
        ),
    ],
)
def test_a_hold_does_nothing_and_hands_the_state_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Document, hold: str
) -> None:
    status, found = answer(tmp_path, capsys, document | {"state": RESTING})
    assert (status, found["hold"], found["actions"]) == (20, hold, [])
    assert found["state"]["backoffs"] == RESTING["backoffs"]


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        pytest.param(
            world(slaves=[slave("i0"), busy("i0")]), "slaves[1] is i0 id-i0 again: give each once", id="a slave twice"
        ),
        pytest.param(
            world(groups=[group("spot-b", []), group("spot-b", [])]),
            "groups[1] is spot-b again: give each once",
            id="a group twice",
        ),
        pytest.param(
            world(groups=[group("spot-b", running("i0", "i0"))]),
            "groups[0].instances[1] is i0 id-i0 again: give each once",
            id="an instance twice",
        ),
        pytest.param(world(config=groups_of("a", "a")), "group a is there 2 times", id="a configured group twice"),
        pytest.param(
            world(config=settings(size={"target_drain_s": 90})), "size.target_drain_s is 90", id="no time but for boots"
        ),
        pytest.param(world(config=settings(size={"slots": 1})), "size.slots is not known", id="an unknown key"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Document, complaint: str
) -> None:
    path = tmp_path / "snapshot.json"
    path.write_text(json.dumps(document))
    assert main(["plan", "--snapshot", str(path)]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("document", "kind", "a_minute"),
    [
        pytest.param(world(**waiting(9999), config=settings(out={"max_per_min": 7})), "grow", 7, id="buying"),
        pytest.param(with_slaves(idle(40), config=settings() | {"in": {"max_per_min": 7}}), "drain", 7, id="draining"),
    ],
)
def test_a_state_that_is_fed_back_two_hundred_times_keeps_to_its_budget_and_does_not_grow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Document, kind: str, a_minute: int
) -> None:
    """Nothing that was decided ever comes true."""
    done, lengths = [], []
    for number in range(200):
        now = NOW + 10 * number
        beating = [entry | {"heartbeat": now} for entry in document["slaves"]]
        document |= {"now": now, "slaves": beating, "queue": document["queue"] | {"at": now}}
        _, found = answer(tmp_path, capsys, document)
        done.append(sum(action.get("n", 0) + len(action.get("names", ())) for action in found["actions"]))
        assert {action["kind"] for action in found["actions"]} <= {kind}
        document["state"] = found["state"]
        lengths.append(len(json.dumps(document["state"])))
    assert [sum(done[start : start + 6]) for start in range(0, 192, 6)] == [a_minute] * 32
    assert max(lengths[100:]) <= max(lengths[:100]) + 10
