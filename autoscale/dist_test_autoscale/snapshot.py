"""The world at one moment, as far as a decision depends on it, and its JSON form: a contract that replays rely on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from dist_test.errors import InvalidSnapshot
from dist_test_autoscale.documents import Node
from dist_test_autoscale.settings import PolicySettings, policy_document, policy_settings
from dist_test_autoscale.state import State, read_state

Record = TypeVar("Record")

SLAVE_STATES = ("up", "draining", "drained", "preempted", "quarantined")
WANTS = ("run", "drain", "delete")


@dataclass(frozen=True, kw_only=True)
class QueueSnapshot:
    """beanstalkd's statistics of our tube, read at `at`, before the rows. `is_missing`: there is no such tube."""

    ready: int
    reserved: int
    delayed: int
    buried: int
    is_paused: bool
    server_id: str
    at: float
    is_missing: bool = False


@dataclass(frozen=True, kw_only=True)
class JobSnapshot:
    """The unfinished attempts of a job, in expected seconds of work."""

    job_id: str
    ready_n: int
    ready_s: float
    running_n: int
    running_left_s: float
    longest_s: float


@dataclass(frozen=True, kw_only=True)
class SlaveSnapshot:
    """A slave's row. `lease_held`: one of its attempts has a live lease. `idle_since` is None while it is busy."""

    name: str
    instance_id: str
    slots: int
    busy: int
    state: str
    want: str
    lease_held: bool
    heartbeat: float
    idle_since: float | None
    started: float


@dataclass(frozen=True, kw_only=True)
class InstanceSnapshot:
    """An entry of a group's listing. `id` and `status` are empty until the machine exists; `errors` are codes."""

    name: str
    id: str
    action: str
    status: str
    first_seen: float
    errors: tuple[str, ...]
    old_template: bool


@dataclass(frozen=True, kw_only=True)
class GroupSnapshot:
    """A managed instance group. Not `ok`: this is its last good listing, which counts but is not acted on."""

    name: str
    target: int
    ok: bool
    autoscaler: bool
    instances: tuple[InstanceSnapshot, ...]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All signals. `queue`, `jobs` and `slaves` are None when they could not be read.

    `boot_s` is the measured time from buying a slave to its first heartbeat. `db_fresh_for` are the seconds for which
    MySQL has been read without a gap; None means long enough.
    """

    now: float
    leader: bool
    boot_s: float
    queue: QueueSnapshot | None
    jobs: tuple[JobSnapshot, ...] | None
    slaves: tuple[SlaveSnapshot, ...] | None
    groups: tuple[GroupSnapshot, ...]
    db_fresh_for: float | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that one decision depends on: what a snapshot file holds and what an audit record keeps."""

    policy: PolicySettings
    snapshot: Snapshot
    state: State

    def to_document(self) -> dict[str, Any]:
        """The case as a snapshot file has it."""
        snapshot = self.snapshot
        document = {
            "config": policy_document(self.policy),
            "now": snapshot.now,
            "leader": snapshot.leader,
            "boot_s": snapshot.boot_s,
            "queue": None if snapshot.queue is None else _queue_document(snapshot.queue),
            "jobs": None if snapshot.jobs is None else [dict(vars(job)) for job in snapshot.jobs],
            "slaves": None if snapshot.slaves is None else [dict(vars(slave)) for slave in snapshot.slaves],
            "groups": [_group_document(group) for group in snapshot.groups],
            "state": self.state.to_document(),
        }
        return document if snapshot.db_fresh_for is None else document | {"db_fresh_for": snapshot.db_fresh_for}


def read_case(document: Any) -> Case:
    """A snapshot file's content. Raises InvalidSnapshot, or ConfigurationError about its `config`."""
    root = Node(value=document, path="")
    if not isinstance(document, dict):
        raise root.refuse("give an object")
    table = root.table(
        needed=("config", "now", "queue", "jobs", "slaves", "groups"),
        optional=("leader", "boot_s", "state", "db_fresh_for"),
    )
    policy = policy_settings(table["config"].value, where="")
    fresh_for, boot = table.find("db_fresh_for"), table.find("boot_s")
    snapshot = Snapshot(
        now=table["now"].number(),
        leader=_optional(table.find("leader"), Node.boolean, True),
        boot_s=policy.scale_out.boot_s_default if boot is None else boot.seconds(),
        queue=None if (queue := table.find("queue")) is None else _queue(queue),
        jobs=_records(table.find("jobs"), _job),
        slaves=_records(table.find("slaves"), lambda node: _slave(node, policy.size.slots_per_slave)),
        groups=tuple(_group(node) for node in table["groups"].items()),
        db_fresh_for=None if fresh_for is None else fresh_for.seconds(),
    )
    _refuse_twins("slaves", ((slave.name, slave.instance_id) for slave in snapshot.slaves or ()))
    _refuse_twins("groups", ((group.name,) for group in snapshot.groups))
    for place, group in enumerate(snapshot.groups):
        _refuse_twins(f"groups[{place}].instances", ((one.name, one.id) for one in group.instances))
    return Case(policy=policy, snapshot=snapshot, state=read_state(table.find("state")))


def _refuse_twins(path: str, keys: Iterable[tuple[str, ...]]) -> None:
    """Refuse two entries of one key: which of them is true, nobody can tell."""
    seen: set[tuple[str, ...]] = set()
    for place, key in enumerate(keys):
        if key in seen:
            raise InvalidSnapshot(f"{path}[{place}] is {' '.join(key)} again: give each once")
        seen.add(key)


def _optional(node: Node | None, read: Callable[[Node], Record], default: Record) -> Record:
    return default if node is None else read(node)


def _records(node: Node | None, read: Callable[[Node], Record]) -> tuple[Record, ...] | None:
    return None if node is None else tuple(read(entry) for entry in node.items())


def _queue(node: Node) -> QueueSnapshot:
    table = node.table(
        needed=("ready", "reserved", "at"), optional=("delayed", "buried", "paused", "server_id", "missing")
    )
    return QueueSnapshot(
        ready=table["ready"].count(),
        reserved=table["reserved"].count(),
        delayed=_optional(table.find("delayed"), Node.count, 0),
        buried=_optional(table.find("buried"), Node.count, 0),
        is_paused=_optional(table.find("paused"), Node.boolean, False),
        server_id=_optional(table.find("server_id"), Node.text, ""),
        at=table["at"].number(),
        is_missing=_optional(table.find("missing"), Node.boolean, False),
    )


def _queue_document(queue: QueueSnapshot) -> dict[str, Any]:
    names = {"is_paused": "paused", "is_missing": "missing"}
    return {names.get(name, name): value for name, value in vars(queue).items()}


def _job(node: Node) -> JobSnapshot:
    table = node.table(needed=("job_id", "ready_n", "ready_s", "running_n", "running_left_s", "longest_s"))
    return JobSnapshot(
        job_id=table["job_id"].text(),
        ready_n=table["ready_n"].count(),
        ready_s=table["ready_s"].seconds(),
        running_n=table["running_n"].count(),
        running_left_s=table["running_left_s"].seconds(),
        longest_s=table["longest_s"].seconds(),
    )


def _slave(node: Node, slots: int) -> SlaveSnapshot:
    table = node.table(
        needed=("name", "instance_id", "busy", "state", "heartbeat", "idle_since", "started"),
        optional=("slots", "want", "lease_held"),
    )
    idle = table.find("idle_since")
    return SlaveSnapshot(
        name=table["name"].text(),
        instance_id=_optional(table.find("instance_id"), Node.text, ""),
        slots=_optional(table.find("slots"), lambda node: node.count(least=1), slots),
        busy=table["busy"].count(),
        state=table["state"].one_of(SLAVE_STATES),
        want=_optional(table.find("want"), lambda node: node.one_of(WANTS), "run"),
        lease_held=_optional(table.find("lease_held"), Node.boolean, False),
        heartbeat=table["heartbeat"].number(),
        idle_since=None if idle is None else idle.number(),
        started=table["started"].number(),
    )


def _group(node: Node) -> GroupSnapshot:
    table = node.table(needed=("name", "target"), optional=("ok", "autoscaler", "instances"))
    instances = table.find("instances")
    return GroupSnapshot(
        name=table["name"].text(),
        target=table["target"].count(),
        ok=_optional(table.find("ok"), Node.boolean, True),
        autoscaler=_optional(table.find("autoscaler"), Node.boolean, False),
        instances=() if instances is None else tuple(_instance(entry) for entry in instances.items()),
    )


def _instance(node: Node) -> InstanceSnapshot:
    table = node.table(needed=("name", "first_seen"), optional=("id", "action", "status", "errors", "old_template"))
    errors = table.find("errors")
    return InstanceSnapshot(
        name=table["name"].text(),
        id=_optional(table.find("id"), Node.text, ""),
        action=_optional(table.find("action"), Node.text, "NONE"),
        status=_optional(table.find("status"), Node.text, ""),
        first_seen=table["first_seen"].number(),
        errors=() if errors is None else tuple(_error_code(entry) for entry in errors.items()),
        old_template=_optional(table.find("old_template"), Node.boolean, False),
    )


def _error_code(node: Node) -> str:
    """The code of an error, which the API gives together with a message."""
    if isinstance(node.value, str):
        return node.value
    return node.table(needed=("code",), optional=("message", "errorDetails"))["code"].text()


def _group_document(group: GroupSnapshot) -> dict[str, Any]:
    instances = [dict(vars(instance)) | {"errors": list(instance.errors)} for instance in group.instances]
    return dict(vars(group)) | {"instances": instances}
