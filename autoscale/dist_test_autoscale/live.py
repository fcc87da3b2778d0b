"""What the program's commands do with the real world."""

import getpass
import json
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

from dist_test.errors import ConfigurationError, InvalidSnapshot
from dist_test.storage.autoscaling import EVERY_GROUP, Autoscaling, Pin, Standing
from dist_test.storage.tube import Tube
from dist_test_autoscale import gce, running
from dist_test_autoscale.decision import Decision
from dist_test_autoscale.listings import Listings
from dist_test_autoscale.metrics import Metrics
from dist_test_autoscale.policy import decide
from dist_test_autoscale.servers import beanstalk_settings
from dist_test_autoscale.service import Tick, load_state, with_pins
from dist_test_autoscale.settings import Settings
from dist_test_autoscale.state import State

LOOK_S = 30.0  # for all groups, when nobody waits for the next round


def run(settings: Settings) -> None:
    """Decide and act until SIGTERM."""
    running.run(settings, lambda metrics: _fleet(settings, metrics))


def run_once(settings: Settings) -> Tick:
    """One round."""
    return running.run_once(settings, lambda metrics: _fleet(settings, metrics))


def plan(settings: Settings) -> Decision:
    """What the leader would do now. Takes no lock, and changes nothing; an account that may only read will do."""
    with running.open_database(settings) as database, closing(Tube(beanstalk_settings(settings))) as tube:
        records, sightings = Autoscaling(database), running.watch(settings)
        standing = records.standing()
        state = State()
        if standing is not None and standing.state is not None:
            state = load_state(standing.state, sightings)
        with _listings(settings) as listings:
            signals = running.signals_of(settings, tube, records, listings, sightings)
            snapshot = signals.read(time.monotonic() + LOOK_S)
        return decide(with_pins(settings.policy, records.pins()), snapshot, state)


def status(settings: Settings) -> dict[str, Any]:
    """What the leader did last, as JSON."""
    with running.open_database(settings) as database:
        records = Autoscaling(database)
        standing, pins = records.standing(), records.pins()
    return _standing_document(settings, standing) | {"pins": [_pin_document(pin) for pin in pins]}


def pin(settings: Settings, group: str | None, size: int | None) -> str:
    """Pin a group, or with None everything; give a sentence about it. Raises ConfigurationError."""
    if group is not None:
        _check_size(settings, group, size)
    elif size is not None:
        raise ConfigurationError(f"--size is {size}, but of which group? Give --group")
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    with running.open_database(settings) as database:
        Autoscaling(database).pin(EVERY_GROUP if group is None else group, size, by=by)
    if group is None:
        return "nothing is changed any more, until: dist-test-autoscale unpin"
    return f"{group} is kept at {size}, until: dist-test-autoscale unpin --group {group}"


def unpin(settings: Settings, group: str | None) -> str:
    """Take a pin back; give a sentence about it."""
    with running.open_database(settings) as database:
        was_there = Autoscaling(database).unpin(EVERY_GROUP if group is None else group)
    what = "the pin of everything" if group is None else f"the pin of {group}"
    return f"{what} is taken back" if was_there else f"{what} was not there"


def status_for_people(document: dict[str, Any]) -> list[str]:
    """The status in lines."""
    if document["leader"] is None:
        return ["no autoscaler has led yet", *_pin_lines(document)]
    last = document["last"] or {}
    age = "never decided" if document["age_s"] is None else f"decided {document['age_s']:.0f} s ago"
    lines = [f"{document['leader']} leads in epoch {document['epoch']}, and {age}"]
    if not document["is_current"]:
        lines.append("that is too long ago: is a service running?")
    lines += last.get("reasons", [])
    lines += [_group_line(group) for group in last.get("groups", [])]
    lines += [f"{name}: backoff for another {seconds:.0f} s" for name, seconds in document["backoffs"].items()]
    if last.get("dry_run"):
        lines.append("dry run: nothing is changed")
    return [*lines, *_pin_lines(document)]


def _group_line(group: dict[str, Any]) -> str:
    unread = "" if group["ok"] else ", cannot be read now"
    return f"{group['name']}: target {group['target']}, {group['instances']} instances{unread}"


def _pin_lines(document: dict[str, Any]) -> list[str]:
    return [
        f"{pin['group']} is kept at {pin['size']} by {pin['by']}" if pin["group"] else f"all is pinned by {pin['by']}"
        for pin in document["pins"]
    ]


def _standing_document(settings: Settings, standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        return {"leader": None, "epoch": 0, "age_s": None, "is_current": False, "last": None, "backoffs": {}}
    age_s = None if standing.age is None else standing.age.total_seconds()
    last = None if standing.summary is None else json.loads(standing.summary)
    return {
        "leader": standing.leader,
        "epoch": standing.epoch,
        "age_s": age_s,
        "is_current": age_s is not None and age_s < 3 * settings.interval_s,
        "last": last,
        "backoffs": {} if last is None else _backoffs(settings, standing, now=last["at"] + (age_s or 0.0)),
    }


def _backoffs(settings: Settings, standing: Standing, *, now: float) -> dict[str, float]:
    """The seconds for which groups are still not grown."""
    try:
        state = load_state(standing.state or "", running.watch(settings))
    except InvalidSnapshot:
        return {}  # written by another version
    return {name: backoff.until - now for name, backoff in sorted(state.backoffs.items()) if backoff.holds(now)}


def _pin_document(pin: Pin) -> dict[str, Any]:
    return {"group": pin.group, "size": pin.size, "by": pin.by, "at": pin.at.timestamp()}


def _check_size(settings: Settings, name: str, size: int | None) -> None:
    group = settings.policy.group(name)
    if group is None:
        known = ", ".join(group.name for group in settings.policy.groups)
        raise ConfigurationError(f"{name} is no group of {settings.path}; there is: {known}")
    if size is None or not 0 <= size <= group.max:
        raise ConfigurationError(f"--size of {name} is {size}: give a number from 0 to its max, {group.max}")


def _fleet(settings: Settings, metrics: Metrics) -> AbstractContextManager[gce.ComputeFleet]:
    return closing(gce.compute_fleet(settings, observe=metrics.observe_call))


@contextmanager
def _listings(settings: Settings) -> Iterator[Listings]:
    with (
        closing(gce.compute_fleet(settings, read_only=True)) as fleet,
        closing(Listings(fleet, settings.policy.groups)) as listings,
    ):
        yield listings
