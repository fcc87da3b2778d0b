"""What is decided: the scenarios of the design, by their numbers there, and what they leave open."""

from typing import Any

import pytest

from tests.unit.autoscale.worlds import (
    NOW,
    Document,
    acted_on,
    acts,
    busy,
    creating,
    decision_of,
    group,
    group_settings,
    grown,
    instance,
    job,
    queue,
    settings,
    slave,
    waiting,
    with_slaves,
    world,
)

EXHAUSTED = "ZONE_RESOURCE_POOL_EXHAUSTED"
BOTH = settings(group=[group_settings("spot-b"), group_settings("spot-c", priority=1)])


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number:02}" for number in range(count)]


def after(document: Document, seconds: float, **keys: Any) -> Document:
    """The next snapshot: what was decided before is remembered, the slaves are still heard of."""
    now = document["now"] + seconds
    beating = [entry | {"heartbeat": now} for entry in keys.pop("slaves", document["slaves"])]
    statistics = keys.pop("queue", document["queue"]) | {"at": now}
    state = decision_of(document).to_document()["state"]
    return document | {"now": now, "slaves": beating, "queue": statistics, "state": state} | keys


# --- how many are wanted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "desired"),
    [
        pytest.param(world(), 0, id="nothing to do"),
        pytest.param(world(**waiting(1)), 1, id="2: one task"),
        pytest.param(world(**waiting(100)), 12, id="4: a hundred minutes within ten, boot included"),
        pytest.param(world(queue=queue(2000)), 1, id="37: entries of a canceled job"),
        pytest.param(world(**waiting(6)), 1, id="43: waiting is worth nothing"),
        pytest.param(world(**waiting(6), config=settings(size={"wait_value": 20})), 6, id="43: waiting is worth 20"),
        pytest.param(world(queue=queue(100), jobs=[job(running=100)]), 12, id="46: running rows, entries came back"),
        pytest.param(
            world(queue=queue(100), jobs=[job(running=100, left=6000)]), 12, id="46: the same, as if they still ran"
        ),
        pytest.param(world(jobs=[job(5)]), 1, id="rows whose entries are not put yet are work"),
        pytest.param(
            world(queue=queue(0, 7), jobs=[job(running=7, left=0)]), 7, id="what runs past its time keeps its slot"
        ),
        pytest.param(
            world(queue=queue(0, 7), jobs=[job(running=7)], config=settings(size={"slots_per_slave": 4})),
            2,
            id="slots go by four",
        ),
        pytest.param(world(**waiting(1), config=settings(size={"min_idle": 2})), 3, id="idle ones are kept with work"),
        pytest.param(world(config=settings(size={"min_idle": 2})), 0, id="idle ones are not kept without work"),
        pytest.param(world(config=settings(size={"min_total": 3})), 3, id="a minimum"),
        pytest.param(world(**waiting(9999), config=settings(size={"max_total": 7})), 7, id="a maximum"),
        pytest.param(
            world(queue=queue(205), jobs=[job(205) | {"ready_s": 13500.0, "longest_s": 1500}]),
            9,
            id="a long task sets the end anyway",
        ),
    ],
)
def test_the_work_tells_how_many_slaves_are_wanted(document: Document, desired: int) -> None:
    assert decision_of(document).desired == desired


# --- buying ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "bought"),
    [
        pytest.param(world(**waiting(1)), {"spot-b": 1}, id="2: the first task"),
        pytest.param(
            world(**waiting(100), groups=[group("spot-b", [creating(name) for name in names("i", 12)])]),
            {},
            id="7: those that boot count",
        ),
        pytest.param(
            world(**waiting(100), groups=[group("spot-b", [], target=12)]), {}, id="those not listed yet count"
        ),
        pytest.param(
            world(**waiting(100), slaves=[slave(name, instance_id="") for name in names("metal", 12)]),
            {},
            id="slaves of no group count",
        ),
        pytest.param(
            world(
                **waiting(100),
                config=BOTH,
                groups=[
                    group("spot-b", [creating(name) for name in names("i", 12)], ok=False),
                    group("spot-c", []),
                ],
            ),
            {},
            id="51: the last listing of a group that does not answer counts",
        ),
        pytest.param(
            world(**waiting(100), config=settings(out={"max_per_min": 5})), {"spot-b": 5}, id="a budget a minute"
        ),
        pytest.param(
            world(
                **waiting(100),
                config=settings(group=[group_settings("spot-b", max=8), group_settings("spot-c", priority=1)]),
                groups=[group("spot-b", []), group("spot-c", [])],
            ),
            {"spot-b": 8, "spot-c": 4},
            id="the next group gives what the first has no room for",
        ),
        pytest.param(
            world(
                config=settings(group=[group_settings("spot-b"), group_settings("spot-c", priority=1, min=2)]),
                groups=[group("spot-b", []), group("spot-c", [])],
            ),
            {"spot-c": 2},
            id="a group's minimum is that group's",
        ),
        pytest.param(
            world(**waiting(100), groups=[group("spot-b", []), group("not-ours", [])]),
            {"spot-b": 12},
            id="a group that the configuration does not name is left alone",
        ),
    ],
)
def test_missing_slaves_are_bought(document: Document, bought: dict[str, int]) -> None:
    assert grown(document) == bought


def test_a_group_that_google_scales_itself_is_left_alone() -> None:
    groups = [group("spot-b", [], autoscaler=True), group("spot-c", [])]
    assert grown(world(**waiting(100), config=BOTH, groups=groups)) == {"spot-c": 12}


def test_of_equal_groups_the_smaller_one_grows() -> None:
    config = settings(group=[group_settings("spot-b"), group_settings("spot-c")])
    groups = [group("spot-b", [creating("b0")]), group("spot-c", [])]
    assert grown(world(**waiting(30), config=config, groups=groups)) == {"spot-c": 3}


def test_a_budget_is_spent_for_a_minute() -> None:
    first = world(**waiting(100), config=settings(out={"max_per_min": 5}))
    second = after(first, 10, groups=[group("spot-b", [creating(name) for name in names("i", 5)])])
    assert grown(second) == {}
    assert "unplaced: 7 more" in " ".join(decision_of(second).reasons)
    assert grown(after(second, 51)) == {"spot-b": 5}


def test_slaves_of_a_group_never_exceed_its_maximum_even_should_a_delete_fail() -> None:
    """The zombie counts until it is gone."""
    config = settings(group=[group_settings("spot-b", max=4)])
    slaves = [busy("i0"), busy("i1"), busy("i2"), slave("i3", heartbeat=NOW - 1000)]
    document = with_slaves(slaves, queue=queue(50, 3), jobs=[job(50, running=3)], config=config)
    assert (acted_on(document, "delete"), grown(document)) == (["i3"], {})


# --- giving back -----------------------------------------------------------------------------------------------------


def test_1_idle_slaves_without_work_are_drained_half_at_a_time() -> None:
    document = with_slaves([slave(name) for name in names("i", 10)])
    assert decision_of(document).desired == 0
    assert acted_on(document, "drain") == names("i", 5)


def test_one_slave_may_always_go() -> None:
    assert acted_on(with_slaves([slave("i0")]), "drain") == ["i0"]


def test_10_only_idle_slaves_are_drained() -> None:
    slaves = [busy("b0"), busy("b1"), *(slave(name) for name in names("i", 4))]
    document = with_slaves(slaves, queue=queue(0, 2), jobs=[job(running=2, left=60)])
    assert acted_on(document, "drain") == ["i00", "i01", "i02"]


@pytest.mark.parametrize(
    ("keys", "drained"),
    [
        pytest.param({"idle_since": NOW - 70}, [], id="12: idle for less than a boot takes"),
        pytest.param({"idle_since": NOW - 95}, ["i0"], id="12: idle for longer"),
        pytest.param({"started": NOW - 59}, [], id="within the first minute, which is paid"),
        pytest.param({"idle_since": None}, [], id="not said since when"),
        pytest.param({"lease_held": True}, [], id="an attempt is leased to it"),
        pytest.param({"heartbeat": NOW - 60}, ["i0"], id="heard of just in time"),
        pytest.param({"state": "quarantined"}, ["i0"], id="it takes no tasks anyway"),
        pytest.param({"state": "preempted"}, [], id="it goes by itself"),
    ],
)
def test_a_slave_is_given_back_once_it_is_idle_for_long(keys: Document, drained: list[str]) -> None:
    assert acted_on(with_slaves([slave("i0", **keys)]), "drain") == drained


def test_a_lull_gives_nothing_back() -> None:
    """What was wanted in the last five minutes is kept."""
    slaves = [slave(name) for name in names("i", 10)]
    lively = with_slaves(slaves, **waiting(100))
    quiet = after(lively, 290, queue=queue(), jobs=[])
    assert acts(quiet) == []
    assert len(acted_on(after(quiet, 10), "drain")) == 5


def test_a_slave_that_has_just_got_work_to_take_is_not_drained() -> None:
    document = with_slaves([slave(name) for name in names("i", 10)], **waiting(8))
    assert decision_of(document).desired == 1
    assert acted_on(document, "drain") == ["i00", "i01"]


def test_a_group_keeps_its_minimum() -> None:
    document = with_slaves([slave(name) for name in names("i", 10)])
    document["config"] = settings(group=[group_settings("spot-b", min=8)])
    assert acted_on(document, "drain") == ["i00", "i01"]


def test_the_least_useful_slave_goes_first() -> None:
    config = settings(
        group=[
            group_settings("best", priority=0),
            group_settings("spare", priority=5),
            group_settings("dear", spot=False),
        ]
    )
    best = [instance("b0"), instance("b1", old_template=True), instance("b2")]
    document = world(
        config=config,
        slaves=[slave("b0"), slave("b1"), slave("b2", idle_since=200.0), slave("s0"), slave("d0")],
        groups=[group("best", best), group("spare", [instance("s0")]), group("dear", [instance("d0")])],
    )
    order = []
    for _ in range(5):
        document["config"] = config | {"in": {"max_per_min": 1}}
        [name] = acted_on(document, "drain")
        order.append(name)
        document["slaves"] = [entry for entry in document["slaves"] if entry["name"] != name]
        for entry in document["groups"]:
            entry["instances"] = [one for one in entry["instances"] if one["name"] != name]
            entry["target"] = len(entry["instances"])
    assert order == ["b1", "d0", "s0", "b2", "b0"]


def test_a_group_never_grows_and_drains_at_once() -> None:
    """Booting ones gave the minimum away: the group owes three and has two idle."""
    config = settings(group=[group_settings("spot-b", min=0), group_settings("spot-c", min=3, priority=1)])
    groups = [
        group("spot-b", [instance(name) for name in names("b", 6)]),
        group("spot-c", [instance(name) for name in names("c", 2)]),
    ]
    document = world(config=config, groups=groups, slaves=[slave(name) for name in [*names("b", 6), *names("c", 2)]])
    kinds = {(action["kind"], action["group"]) for action in acts(document)}
    assert kinds == {("drain", "spot-b"), ("grow", "spot-c")}


# --- drains ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "deleted"),
    [
        pytest.param({"state": "up", "want": "drain"}, [], id="15: asked"),
        pytest.param({"state": "draining", "want": "drain"}, [], id="15: draining"),
        pytest.param({"state": "drained", "want": "drain"}, ["i0"], id="15: drained"),
        pytest.param({"state": "drained", "want": "delete"}, ["i0"], id="a delete that failed is tried again"),
        pytest.param({"state": "drained", "busy": 1}, [], id="says drained, and is busy"),
        pytest.param({"state": "drained", "lease_held": True}, [], id="says drained, and has a lease"),
    ],
)
def test_a_slave_is_deleted_only_once_it_says_that_it_is_drained(keys: Document, deleted: list[str]) -> None:
    assert acted_on(with_slaves([slave("i0", **keys)]), "delete") == deleted


def test_a_new_machine_of_a_drained_slaves_name_is_not_deleted() -> None:
    document = world(slaves=[slave("i0", state="drained")], groups=[group("spot-b", [instance("i0", id="another")])])
    assert acts(document | {"now": 500.0, "queue": queue(at=500.0)}) == []


def test_17_work_takes_drains_back_before_slaves_are_bought() -> None:
    document = with_slaves([slave("i0", state="draining"), slave("i1", state="drained")], **waiting(2))
    assert [(action["kind"], action.get("names")) for action in acts(document)] == [("undrain", ["i0", "i1"])]


def test_a_slave_marked_for_deletion_is_not_taken_back() -> None:
    document = with_slaves([slave("i0", state="drained", want="delete")], **waiting(2))
    assert [(action["kind"]) for action in acts(document)] == ["delete", "grow"]


def test_a_drain_without_an_answer_is_taken_back() -> None:
    first = with_slaves([slave("i0", want="drain")])
    assert acts(first) == []
    waited = after(first, 120)
    assert acts(waited) == []
    assert acted_on(after(waited, 1), "undrain") == ["i0"]


def test_a_drain_with_a_task_still_running_is_waited_for() -> None:
    first = with_slaves([busy("i0", state="draining", want="drain")], queue=queue(0, 1), jobs=[job(running=1)])
    assert acts(after(first, 3000)) == []


# --- what goes wrong -------------------------------------------------------------------------------------------------


def stocked_out(**keys: Any) -> Document:
    failed = [creating(name, age=100, errors=[EXHAUSTED]) for name in names("b", 12)]
    return world(**waiting(100), config=BOTH, groups=[group("spot-b", failed), group("spot-c", [])], **keys)


def test_25_a_group_without_stock_rests_and_the_next_one_gives() -> None:
    assert acts(stocked_out()) == [
        {"kind": "delete", "group": "spot-b", "names": names("b", 12)},
        {"kind": "backoff", "group": "spot-b", "seconds": 300.0},
        {"kind": "grow", "group": "spot-c", "n": 12},
    ]


def test_a_failure_of_a_moment_is_waited_out() -> None:
    young = [creating(name, age=44, errors=[EXHAUSTED]) for name in names("b", 12)]
    document = world(**waiting(100), groups=[group("spot-b", young)])
    assert acts(document) == []
    document["config"] = settings(out={"failed_after_s": 44})
    assert acted_on(document, "delete") == names("b", 12)


def test_backoffs_double_and_are_forgotten() -> None:
    document, seconds = stocked_out(), []
    for pause in (0, 300, 600, 1200, 1800, 3601):
        document = after(document, pause) if pause else document
        seconds += [action["seconds"] for action in acts(document) if action["kind"] == "backoff"]
    assert seconds == [300, 600, 1200, 1800, 1800, 300]


def test_a_backoff_that_lasts_is_not_begun_again() -> None:
    second = after(stocked_out(), 10)
    assert [action["kind"] for action in acts(second)] == ["delete", "grow"]


def test_an_instance_that_is_being_made_for_ever_is_given_up() -> None:
    document = world(**waiting(1), groups=[group("spot-b", [creating("b0", age=600)])])
    assert [action["kind"] for action in acts(document)] == ["delete", "backoff"]


def fleet_with_silent(**keys: Any) -> Document:
    """Three slaves, one of which was not heard of for long, and work."""
    slaves = [busy("i0"), busy("i1"), slave("i2", heartbeat=NOW - 1000)]
    return with_slaves(slaves, queue=queue(100, 2), jobs=[job(100, running=2)], **keys)


def test_32_a_zombie_is_deleted_and_is_no_capacity() -> None:
    decision = decision_of(fleet_with_silent())
    assert decision.capacity == 2
    assert [str(action.kind) for action in decision.actions] == ["delete", "grow"]
    assert "zombie i2" in " ".join(decision.reasons)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"lease_held": True}, id="an attempt is leased to it"),
        pytest.param({"heartbeat": NOW - 599}, id="it was heard of within a boot's timeout"),
    ],
)
def test_a_silent_slave_is_no_zombie_yet(change: Document) -> None:
    document = fleet_with_silent()
    document["slaves"][2] |= change
    assert acted_on(document, "delete") == []


def test_no_zombie_is_seen_in_a_database_that_has_just_come_back() -> None:
    assert acted_on(fleet_with_silent(db_fresh_for=179), "delete") == []
    assert acted_on(fleet_with_silent(db_fresh_for=180), "delete") == ["i2"]


def test_two_zombies_are_deleted_at_a_time() -> None:
    slaves = [slave(name, heartbeat=NOW - 1000) for name in names("z", 4)]
    document = with_slaves([*slaves, *(busy(name) for name in names("i", 5))])
    assert acted_on(document, "delete") == ["z00", "z01"]


def test_a_machine_whose_slave_never_came_is_a_zombie_if_others_came() -> None:
    document = with_slaves([busy("i0")], queue=queue(0, 1), jobs=[job(running=1)])
    document["groups"] = [group("spot-b", [instance("i0"), instance("i1")])]
    assert acted_on(document, "delete") == ["i1"]


def test_a_group_whose_machines_never_become_slaves_rests() -> None:
    document = world(**waiting(1), groups=[group("spot-b", [instance("i0")])])
    assert acts(document) == [{"kind": "backoff", "group": "spot-b", "seconds": 300.0}]


# --- holds -----------------------------------------------------------------------------------------------------------

IDLE = [slave(name) for name in names("i", 4)]


@pytest.mark.parametrize(
    ("document", "hold"),
    [
        pytest.param(with_slaves(IDLE, leader=False), "not_leader", id="another leads"),
        pytest.param(with_slaves(IDLE, queue=None), "stale_queue", id="no statistics"),
        pytest.param(with_slaves(IDLE, queue=queue(at=NOW - 61)), "stale_queue", id="20: old statistics"),
        pytest.param(with_slaves(IDLE, jobs=None), "stale_db", id="no jobs"),
        pytest.param(with_slaves(IDLE) | {"slaves": None}, "stale_db", id="no slaves"),
        pytest.param(
            with_slaves([slave("i0"), slave("i1", heartbeat=NOW - 1000)]),
            "stale_db",
            id="half of the slaves are silent",
        ),
        pytest.param(
            with_slaves(IDLE, queue=queue(missing=True), jobs=[job(50)]), "queue_missing", id="C22: no tube, and work"
        ),
        pytest.param(
            world(slaves=IDLE, groups=[group("spot-b", [instance("i00")], ok=False)]),
            "no_usable_group",
            id="no group answers",
        ),
        pytest.param(world(slaves=IDLE, groups=[]), "no_usable_group", id="no group was read"),
    ],
)
def test_what_is_not_known_is_never_zero(document: Document, hold: str) -> None:
    answer = decision_of(document).to_document()
    assert (answer["hold"], answer["actions"], answer["desired"]) == (hold, [], None)


def test_statistics_of_a_minute_ago_are_believed() -> None:
    assert decision_of(with_slaves(IDLE, queue=queue(at=NOW - 60))).hold is None


def test_no_tube_and_no_work_is_an_empty_queue() -> None:
    assert decision_of(world(queue=queue(missing=True))).hold is None


def test_after_half_an_hour_of_silence_work_is_served_and_nobody_is_deleted() -> None:
    """One of one slave is dead: a hold would last until somebody looks."""
    silent = with_slaves([slave("i0", heartbeat=NOW - 1000)], **waiting(1))
    assert decision_of(silent).hold == "stale_db"
    later = after(silent, 1800) | {"slaves": silent["slaves"]}
    assert acts(later) == [{"kind": "grow", "group": "spot-b", "n": 1}]


def test_another_beanstalkd_drains_nobody_for_five_minutes_and_may_grow() -> None:
    first = with_slaves([slave(name) for name in names("i", 4)])
    first["config"] = settings() | {"in": {"max_per_min": 1}}
    restarted = after(first, 100, queue=queue(server_id="b"))
    assert acts(restarted) == []
    assert grown(restarted | waiting(100) | {"queue": queue(100, server_id="b", at=restarted["now"])}) == {"spot-b": 8}
    assert acts(after(restarted, 299)) == []
    assert len(acted_on(after(restarted, 300), "drain")) == 1


def test_how_long_a_restart_of_beanstalkd_keeps_slaves_is_set() -> None:
    first = with_slaves(IDLE, config=settings() | {"in": {"max_per_min": 1, "queue_restart_hold_s": 20}})
    restarted = after(first, 100, queue=queue(server_id="b"))
    assert acts(after(restarted, 19)) == []
    assert len(acted_on(after(restarted, 20), "drain")) == 1


def test_a_paused_tube_buys_nothing() -> None:
    document = world(queue=queue(100, paused=True), jobs=[job(100)])
    assert (decision_of(document).desired, acts(document)) == (0, [])
