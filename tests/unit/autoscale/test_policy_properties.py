"""What holds of every decision, whatever the world looks like."""

import dataclasses
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from dist_test_autoscale.decision import Cause, Decision, Kind
from dist_test_autoscale.policy import decide
from dist_test_autoscale.snapshot import Case, SlaveSnapshot, read_case
from dist_test_autoscale.state import spent
from tests.unit.autoscale import worlds
from tests.unit.autoscale.worlds import NOW, Document

GROUPS = ("a", "b")
LATELY = st.sampled_from([NOW - 61, NOW - 50, NOW - 5, NOW - 5, NOW])
MOMENTS = st.sampled_from([NOW - 2000, NOW - 700, NOW - 150, NOW - 95, NOW - 61, NOW - 50, NOW - 5, NOW])


def one_of(*words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words)


def slaves(name: str) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries(
        {
            "name": st.just(name),
            "instance_id": one_of(*[f"id-{name}"] * 4, "another", ""),
            "busy": st.sampled_from([0, 0, 1, 2]),
            "slots": st.integers(1, 2),
            "state": one_of("up", "up", "up", "draining", "drained", "preempted", "quarantined"),
            "want": one_of("run", "run", "run", "drain", "delete"),
            "lease_held": st.sampled_from([False, False, True]),
            "heartbeat": LATELY | LATELY | LATELY | MOMENTS,
            "idle_since": st.none() | MOMENTS | MOMENTS,
            "started": MOMENTS,
        }
    )


def instances(name: str) -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries(
        {
            "name": st.just(name),
            "id": one_of(f"id-{name}", f"id-{name}", f"id-{name}", ""),
            "action": one_of(*["NONE"] * 6, "CREATING", "RECREATING", "DELETING"),
            "status": one_of(*["RUNNING"] * 6, "STAGING", "STOPPING", ""),
            "first_seen": MOMENTS,
            "errors": st.just([]) | st.just(["QUOTA_EXCEEDED"]),
            "old_template": st.booleans(),
        }
    )


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """A snapshot file of two groups in any condition."""
    names = {group: [f"{group}{number}" for number in range(draw(st.integers(0, 6)))] for group in GROUPS}
    listings = {group: [draw(instances(name)) for name in names[group]] for group in GROUPS}
    minimum = {group: draw(st.integers(0, 2)) for group in GROUPS}
    groups = [
        worlds.group(group, listings[group], ok=draw(st.integers(0, 4)) > 0, autoscaler=draw(st.integers(0, 4)) == 0)
        for group in GROUPS
    ]
    running = draw(st.integers(0, 2) | st.integers(0, 8))
    return worlds.world(
        config=worlds.settings(
            group=[
                worlds.group_settings(group, min=minimum[group], max=draw(st.integers(2, 9)), priority=place)
                for place, group in enumerate(GROUPS)
            ],
            size={"wait_value": draw(st.sampled_from([0, 20])), "max_total": draw(st.integers(4, 30))},
            out={"max_per_min": draw(st.integers(1, 20))},
        ),
        queue=worlds.queue(
            draw(st.integers(0, 3) | st.integers(0, 60)), draw(st.integers(0, 8)), paused=draw(st.booleans())
        ),
        jobs=[worlds.job(draw(st.integers(0, 2) | st.integers(0, 60)), running=running, left=running * 30.0)],
        slaves=[draw(slaves(name)) for name in [*names["a"], *names["b"], "metal"]],
        groups=groups,
        db_fresh_for=draw(st.sampled_from([10, 500])),
    )


def case_of(document: Document) -> Case:
    return read_case(document)


def run(case: Case) -> Decision:
    return decide(case.policy, case.snapshot, case.state)


def targets(decision: Decision, kind: Kind) -> list[tuple[tuple[str, str], Cause]]:
    return [
        ((target.name, target.instance_id), target.cause)
        for action in decision.actions
        if action.kind is kind
        for target in action.targets
    ]


def is_at_work(slave: SlaveSnapshot, now: float) -> bool:
    """Whether a task may run there: it has a lease, or says so and was heard of within the lease's time."""
    return slave.lease_held or (slave.busy > 0 and now - slave.heartbeat <= 60)


def check_case(case: Case, decision: Decision) -> None:
    """All that must hold of a decision, whatever led to it."""
    check_victims(case, decision)
    check_sizes(case, decision)
    grown = {action.group for action in decision.actions if action.kind is Kind.GROW}
    drained = {action.group for action in decision.actions if action.kind is Kind.DRAIN}
    assert not grown & drained
    assert decision.hold is None or decision.actions == ()
    ours = {group.name for group in case.snapshot.groups if group.ok and not group.autoscaler}
    assert {action.group for action in decision.actions} <= ours


def check_victims(case: Case, decision: Decision) -> None:
    by_key = {(slave.name, slave.instance_id): slave for slave in case.snapshot.slaves or ()}
    gone = [key for key, _ in [*targets(decision, Kind.DELETE), *targets(decision, Kind.DRAIN)]]
    assert len(gone) == len(set(gone))
    assert [key for key in gone if key in by_key and is_at_work(by_key[key], case.snapshot.now)] == []
    assert not {key for key, _ in targets(decision, Kind.UNDRAIN)} & set(gone)
    now = case.snapshot.now
    living = {slave.name for slave in by_key.values() if slave.lease_held or now - slave.heartbeat <= 60}
    for key, cause in targets(decision, Kind.DELETE):
        assert by_key[key].state == "drained" if cause is Cause.DRAINED else key[0] not in living


def check_sizes(case: Case, decision: Decision) -> None:
    groups = {group.name: group for group in case.snapshot.groups}
    for action in decision.actions:
        if action.kind is Kind.GROW:
            maximum = case.policy.group(action.group)
            assert maximum is not None
            assert 1 <= action.slaves <= maximum.max - groups[action.group].target
    now, state = case.snapshot.now, decision.state
    assert spent(state.bought, now) <= case.policy.scale_out.max_per_min
    assert spent(state.drained, now) <= case.policy.scale_in.max_per_min


@given(documents())
@settings(max_examples=200, deadline=None)
def test_any_decision_is_safe(document: Document) -> None:
    case = case_of(document)
    check_case(case, run(case))


@given(documents())
@settings(max_examples=50, deadline=None)
def test_equal_cases_are_decided_equally_and_a_file_replays_them(document: Document) -> None:
    case = case_of(document)
    again = case_of(case.to_document())
    assert again == case
    assert run(case).to_document() == run(again).to_document()


@given(documents(), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_of_what_was_read_changes_nothing(document: Document, chance: random.Random) -> None:
    case = case_of(document)
    snapshot = case.snapshot
    groups = [
        dataclasses.replace(group, instances=tuple(shuffled(group.instances, chance))) for group in snapshot.groups
    ]
    other = dataclasses.replace(
        snapshot,
        jobs=tuple(shuffled(snapshot.jobs or (), chance)),
        slaves=tuple(shuffled(snapshot.slaves or (), chance)),
        groups=tuple(shuffled(groups, chance)),
    )
    assert run(dataclasses.replace(case, snapshot=other)) == run(case)


def shuffled(entries: Any, chance: random.Random) -> list[Any]:
    return sorted(entries, key=lambda _: chance.random())


class World(RuleBasedStateMachine):
    """Two groups and their slaves over time: decisions are carried out, and the world does what it likes in between."""

    @initialize(sizes=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(2, 8))] * 2), most=st.integers(4, 20))
    def begin(self, sizes: tuple[tuple[int, int], ...], most: int) -> None:
        self.sizes = dict(zip(GROUPS, sizes, strict=True))
        self.most, self.now, self.count = most, NOW, 0
        self.waiting, self.server = 0, "a"
        self.machines: dict[str, Document] = {}
        self.slaves: dict[str, Document] = {}
        self.unread: set[str] = set()
        self.state: Document | None = None

    @rule(tasks=st.integers(1, 60))
    def a_job_comes(self, tasks: int) -> None:
        self.waiting += tasks

    @rule()
    def a_job_is_canceled(self) -> None:
        self.waiting = 0

    @rule(seconds=st.sampled_from([5, 10, 30, 100, 400, 900]), is_heard=st.sampled_from([True, True, True, False]))
    def time_passes(self, seconds: int, is_heard: bool) -> None:
        """Not heard: as while MySQL is away."""
        self.now += seconds
        for entry in self.slaves.values():
            entry["heartbeat"] = self.now if is_heard else entry["heartbeat"]

    @rule()
    def machines_boot(self) -> None:
        for name, machine in self.machines.items():
            if machine["action"] != "NONE" and not machine["errors"]:
                self.count += 1
                machine |= {"action": "NONE", "status": "RUNNING", "id": f"id-{self.count}"}
                self.slaves[name] = worlds.slave(
                    name,
                    instance_id=machine["id"],
                    heartbeat=self.now,
                    idle_since=self.now,
                    started=self.now,
                    want="run",
                )

    @rule()
    def the_zone_is_out_of_stock(self) -> None:
        for machine in self.machines.values():
            if machine["action"] != "NONE":
                machine["errors"] = ["ZONE_RESOURCE_POOL_EXHAUSTED"]

    @rule(is_noticed=st.booleans())
    def a_machine_is_preempted(self, is_noticed: bool) -> None:
        """Its group makes another of its name; the row of the old one is there until the new one registers."""
        for name, machine in list(self.machines.items())[:1]:
            machine |= {"action": "RECREATING", "status": "STOPPING", "id": "", "first_seen": self.now}
            if name in self.slaves:
                self.waiting += self.slaves[name]["busy"]
                self.slaves[name] |= {"busy": 0, "lease_held": False} | ({"state": "preempted"} if is_noticed else {})

    @rule()
    def a_machine_of_unknown_identity_starts(self) -> None:
        for entry in list(self.slaves.values())[-1:]:
            entry["instance_id"] = ""

    @rule(count=st.integers(1, 8))
    def slaves_take_tasks(self, count: int) -> None:
        free = [entry for entry in self.slaves.values() if entry["want"] == "run" and not entry["busy"]]
        for entry in [entry for entry in free if entry["state"] != "preempted"][: min(count, self.waiting)]:
            entry |= {"busy": 1, "idle_since": None, "lease_held": True, "state": "up"}
            self.waiting -= 1

    @rule()
    def tasks_end(self) -> None:
        for entry in self.slaves.values():
            if entry["busy"]:
                entry |= {"busy": 0, "idle_since": self.now, "lease_held": False}

    @rule()
    def slaves_answer(self) -> None:
        for entry in self.slaves.values():
            is_done = not entry["busy"]
            if entry["state"] != "preempted":
                entry["state"] = "up" if entry["want"] == "run" else "drained" if is_done else "draining"

    @rule()
    def an_operator_drains_a_slave(self) -> None:
        for entry in list(self.slaves.values())[:1]:
            entry["want"] = "drain" if entry["want"] == "run" else entry["want"]

    @rule()
    def beanstalkd_restarts(self) -> None:
        self.server += "a"

    @rule(group=st.sampled_from(GROUPS))
    def a_group_stops_or_begins_to_answer(self, group: str) -> None:
        self.unread ^= {group}

    @rule(sizes=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(2, 8))] * 2))
    def the_configuration_changes(self, sizes: tuple[tuple[int, int], ...]) -> None:
        self.sizes = dict(zip(GROUPS, sizes, strict=True))

    @rule(ticks=st.integers(1, 60))
    def all_goes_well(self, ticks: int) -> None:
        """Machines boot, tasks run and slaves do as they are told, for up to ten minutes."""
        for _ in range(ticks):
            self.time_passes(10, is_heard=True)
            self.machines_boot()
            self.tasks_end()
            self.slaves_take_tasks(8)
            self.slaves_answer()
            self.the_service_decides(fails=False, unread="")

    @rule(fails=st.sampled_from([False, False, True]), unread=st.sampled_from(["", "", "", "queue", "jobs", "slaves"]))
    def the_service_decides(self, fails: bool, unread: str) -> None:
        case = case_of(self.document() | ({unread: None} if unread else {}))
        decision = run(case)
        check_case(case, decision)
        assert not unread or decision.hold is not None
        self.state = decision.state.to_document()
        if not fails:
            self.carry_out(decision)

    def document(self) -> Document:
        running = sum(entry["busy"] for entry in self.slaves.values())
        listed = {group: [dict(one) for name, one in self.machines.items() if name[0] == group] for group in GROUPS}
        tables = [
            worlds.group_settings(group, min=least, max=most, priority=place)
            for place, (group, (least, most)) in enumerate(self.sizes.items())
        ]
        return worlds.world(
            config=worlds.settings(group=tables, size={"max_total": self.most}),
            now=self.now,
            queue=worlds.queue(self.waiting, running, at=self.now, server_id=self.server),
            jobs=[worlds.job(self.waiting, running=running, left=30.0 * running)],
            slaves=[dict(entry) for entry in self.slaves.values()],
            groups=[worlds.group(group, listed[group], ok=group not in self.unread) for group in GROUPS],
            state=self.state,
        )

    def carry_out(self, decision: Decision) -> None:
        for (name, instance_id), _ in targets(decision, Kind.DELETE):
            assert not self.slaves.get(name, {"busy": 0})["busy"]
            assert self.machines.pop(name)["id"] == instance_id
            self.slaves.pop(name, None)
        for (name, _), _ in targets(decision, Kind.DRAIN):
            self.slaves[name]["want"] = "drain"
        for (name, _), _ in targets(decision, Kind.UNDRAIN):
            self.slaves[name]["want"] = "run"
        for action in decision.actions:
            for _ in range(action.slaves):
                self.count += 1
                name = f"{action.group}{self.count}"
                self.machines[name] = worlds.creating(name, first_seen=self.now)
            if action.kind is Kind.GROW:
                assert self.size(action.group) <= self.sizes[action.group][1], "a target above the maximum"
                assert len(self.machines) <= self.most, "more than all groups may have together"

    def size(self, group: str) -> int:
        return sum(name[0] == group for name in self.machines)


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
