"""Snapshot files for tests, as the contract has them: what a test does not say is quiet and in order."""

from typing import Any

from dist_test_autoscale.decision import Decision
from dist_test_autoscale.policy import decide
from dist_test_autoscale.snapshot import read_case

Document = dict[str, Any]

NOW = 1000.0


def settings(*, group: list[Document] | None = None, **tables: Document) -> Document:
    """A `config`: one spot group, and no worth of waiting unless said."""
    size = {"wait_value": 0} | tables.pop("size", {})
    return {"size": size, "group": group or [group_settings("spot-b")]} | tables


def group_settings(name: str, **keys: Any) -> Document:
    return {"name": name, "zone": "z", "priority": 0, "spot": True, "min": 0, "max": 100} | keys


def instance(name: str, **keys: Any) -> Document:
    """A machine that has run for long."""
    return {
        "name": name,
        "id": f"id-{name}",
        "action": "NONE",
        "status": "RUNNING",
        "first_seen": 0.0,
        "errors": [],
        "old_template": False,
    } | keys


def creating(name: str, *, age: float = 10, **keys: Any) -> Document:
    """A machine that is being made."""
    return instance(name, id="", action="CREATING", status="", first_seen=NOW - age) | keys


def slave(name: str, **keys: Any) -> Document:
    """A slave that has idled since long ago."""
    return {
        "name": name,
        "instance_id": f"id-{name}",
        "busy": 0,
        "state": "up",
        "heartbeat": NOW - 5,
        "idle_since": 300.0,
        "started": 0.0,
    } | keys


def busy(name: str, **keys: Any) -> Document:
    return slave(name, busy=1, idle_since=None, lease_held=True) | keys


def group(name: str, instances: list[Document], **keys: Any) -> Document:
    """A group's listing, with the target that belongs to it."""
    staying = [entry for entry in instances if entry["action"] not in ("DELETING", "ABANDONING")]
    return {"name": name, "target": len(staying), "ok": True, "autoscaler": False, "instances": instances} | keys


def job(
    ready: int = 0, *, each: float = 60, running: int = 0, left: float = 0, longest: float | None = None
) -> Document:
    return {
        "job_id": "j",
        "ready_n": ready,
        "ready_s": ready * each,
        "running_n": running,
        "running_left_s": left,
        "longest_s": each if longest is None else longest,
    }


def queue(ready: int = 0, reserved: int = 0, **keys: Any) -> Document:
    statistics = {"ready": ready, "reserved": reserved, "delayed": 0, "buried": 0}
    return statistics | {"paused": False, "server_id": "a", "at": NOW} | keys


def world(**keys: Any) -> Document:
    """A snapshot file: nothing waits, nothing is there."""
    return {
        "config": settings(),
        "now": NOW,
        "leader": True,
        "boot_s": 90,
        "queue": queue(),
        "jobs": [],
        "slaves": [],
        "groups": [group("spot-b", [])],
        "state": None,
    } | keys


def with_slaves(slaves: list[Document], **keys: Any) -> Document:
    """A snapshot file of a group in which each of these slaves is a running instance."""
    return world(slaves=slaves, groups=[group("spot-b", [instance(entry["name"]) for entry in slaves])], **keys)


def waiting(ready: int, *, each: float = 60) -> Document:
    """The two keys of a snapshot that tell of one job of which nothing runs yet."""
    return {"queue": queue(ready), "jobs": [job(ready, each=each)] if ready else []}


def decision_of(document: Document) -> Decision:
    case = read_case(document)
    return decide(case.policy, case.snapshot, case.state)


def acts(document: Document) -> list[Document]:
    """The actions decided, as the contract has them."""
    actions: list[Document] = decision_of(document).to_document()["actions"]
    return actions


def grown(document: Document) -> dict[str, int]:
    """How many slaves each group buys."""
    return {action["group"]: action["n"] for action in acts(document) if action["kind"] == "grow"}


def acted_on(document: Document, kind: str) -> list[str]:
    """The names of the instances that this is done to."""
    return [name for action in acts(document) if action["kind"] == kind for name in action["names"]]
