"""Compute Engine with managed instance groups, for tests: a strict HTTP server that takes what the real one takes.

Every request is checked against the API's own description, and so is every answer of the fake itself; what is not
allowed is answered 400 and noted in `violations`, which the test must find empty.

As a program it starts a command for each machine that boots: see --help.
"""

import argparse
import itertools
import random
import re
import shlex
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from . import discovery
from .discovery import Call, Document, NotAllowed, Request, description, error
from .instance_groups import Driver, Group, Machine, NoDriver, Times, World, documents, page
from .instance_processes import Processes

DELETES_AT_ONCE = 1000
TICK_SECONDS = 0.05
_MANAGERS = ("instanceGroupManagers", "regionInstanceGroupManagers")
_OPERATIONS = ("zoneOperations", "regionOperations")
_INSTANCE = re.compile(r"(?:https://www\.googleapis\.com/compute/v1/projects/[^/]+/)?(zones/[^/]+/instances/[^/]+)")


@dataclass(kw_only=True)
class Fault:
    """Something that goes wrong with the next `times` calls of `action`, of all groups or of one.

    status and reason: the answer, as an error. does_it_all_the_same: only the answer is lost. hangs: seconds without
    any answer. operation_error: the call is answered well, and its operation fails with this code.
    """

    action: str = ""
    group: str = ""
    status: int = 503
    reason: str = "backendError"
    message: str = "the fake was told to fail"
    times: int = 1
    does_it_all_the_same: bool = False
    hangs: float = 0.0
    operation_error: str = ""

    def hits(self, call: Call) -> bool:
        is_action = self.action in ("", call.action)
        is_group = self.group in ("", call.names.get("instanceGroupManager"))
        return self.times > 0 and is_action and is_group


class FakeComputeEngine:
    """The project `project`, with the groups that were added.

    faults: see Fault. error_rate: part of all calls that fail by `dice`. per_minute: calls that a minute may have.
    tokens: those that are taken; None for any and none. calls: all that were allowed, for tests to look at. on_call:
    told of each before it is answered.
    """

    def __init__(
        self,
        *,
        project: str = "our-project",
        times: Times | None = None,
        driver: Driver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        description()  # now, and not while somebody waits for the first answer
        self.project = project
        self.faults: list[Fault] = []
        self.error_rate = 0.0
        self.dice = random.Random(1)
        self.per_minute = 1_000_000
        self.tokens: set[str] | None = None
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], None] = _ignore
        self.violations: list[str] = []
        self.operation_polls = 0  # how often an operation is found running before it is done
        self.world = World(clock, driver or NoDriver(), times or Times())
        self._clock = clock
        self._lock = threading.RLock()
        self._operations: dict[str, Document] = {}
        self._polls: dict[str, int] = {}
        self._by_request: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._minute = (0, 0)

    def add(self, group: Group) -> Group:
        """Add a group; it begins with as many machines as its target says, none of them booted."""
        with self._lock:
            self.world.groups[group.name] = group
            size, group.target = group.target, 0
            self.world.resize(group, size)
            return group

    def advance(self) -> None:
        """Do what is due by now."""
        with self._lock:
            self.world.advance()

    def preempt(self, name: str) -> None:
        """Give a machine notice."""
        with self._lock:
            self.world.preempt(name)

    def replace(self, name: str) -> None:
        """Take a machine without notice and bring up its successor."""
        with self._lock:
            self.world.replace(name)

    def changes(self) -> list[Call]:
        """The calls that change something."""
        return [call for call in self.calls if call.action in ("resize", "deleteInstances")]

    def shrinks(self) -> list[str]:
        """Each time somebody lowered a target by `resize`."""
        return [shrink for group in self.world.groups.values() for shrink in group.shrinks]

    def close(self) -> None:
        """Power all machines off."""
        with self._lock:
            self.world.close()

    def answer(self, request: Request) -> tuple[int, Document]:
        """Status and body. Raises NotAllowed."""
        if request.target.startswith("/fake/"):
            return self._told(request)
        call = description().read(request)
        fault = self._note(call, request)
        self.on_call(call)
        if fault is not None and fault.hangs:
            time.sleep(fault.hangs)
        if fault is not None and not fault.operation_error and not fault.does_it_all_the_same:
            return fault.status, error(fault.status, fault.message, fault.reason)
        with self._lock:
            self.world.advance()
            status, document = self._do(call, fault.operation_error if fault else "")
        if fault is not None and fault.does_it_all_the_same:
            return fault.status, error(fault.status, fault.message, fault.reason)
        if status == 200:
            description().check_answer(call, document)
        return status, document

    def _note(self, call: Call, request: Request) -> Fault | None:
        with self._lock:
            self.calls.append(call)
            if self.tokens is not None and (request.authorization or "").removeprefix("Bearer ") not in self.tokens:
                return Fault(status=401, reason="authError")
            if self._is_too_much():
                return Fault(status=403, reason="rateLimitExceeded", message="Quota exceeded for quota metric")
            if fault := next((fault for fault in self.faults if fault.hits(call)), None):
                fault.times -= 1
                return fault
            return self._rolled(call)

    def _rolled(self, call: Call) -> Fault | None:
        if self.dice.random() >= self.error_rate:
            return None
        status, reason = self.dice.choice([(503, "backendError"), (500, "internalError"), (403, "rateLimitExceeded")])
        # Half of the time the server did it, and only the answer was lost.
        return Fault(status=status, reason=reason, does_it_all_the_same=status != 403 and self.dice.random() < 0.5)

    def _is_too_much(self) -> bool:
        minute, count = int(self._clock() // 60), self._minute[1]
        self._minute = (minute, count + 1 if minute == self._minute[0] else 1)
        return self._minute[1] > self.per_minute

    def _do(self, call: Call, operation_error: str) -> tuple[int, Document]:
        if call.names["project"] != self.project:
            return 404, error(404, f"The resource 'projects/{call.names['project']}' was not found", "notFound")
        collection = call.method.partition(".")[0]
        if collection in _OPERATIONS and call.action in ("wait", "get"):
            return self._operation(call.names["operation"])
        if collection not in _MANAGERS:
            raise NotAllowed(f"the fake does not do {call.method}")
        group = self._group(call)
        if group is None:
            name = "/".join([*call.names.values()])
            return 404, error(404, f"The resource '{name}' was not found", "notFound")
        return self._do_to(group, call, operation_error)

    def _group(self, call: Call) -> Group | None:
        group = self.world.groups.get(call.names["instanceGroupManager"])
        if group is None:
            return None
        if "region" in call.names:
            return group if group.region == call.names["region"] else None
        return group if not group.region and group.zones == (call.names["zone"],) else None

    def _do_to(self, group: Group, call: Call, operation_error: str) -> tuple[int, Document]:
        if call.action == "get":
            return 200, group.to_document(self.project)
        if call.action == "listManagedInstances":
            size = int(call.query.get("maxResults", "500"))
            machines, token = page(group, size=size, token=call.query.get("pageToken", ""))
            more = {"nextPageToken": token} if token else {}
            return 200, {"managedInstances": list(documents(machines, self.project)), **more}
        if call.action not in ("resize", "deleteInstances"):
            raise NotAllowed(f"the fake does not do {call.method}")
        return self._change(group, call, operation_error)

    def _change(self, group: Group, call: Call, operation_error: str) -> tuple[int, Document]:
        request_id = call.query.get("requestId", "")
        if not _is_uuid(request_id):
            # Optional for the API, and not for us: without it a retry happens twice.
            raise NotAllowed(f"requestId of {call.method} is {request_id!r}, no UUID")
        known = self._by_request.get(request_id)
        if known is not None:
            return self._operation(known)
        if group.autoscaler and call.action == "resize":
            text = "Resizing of autoscaled zonal managed instance groups is not allowed"
            return 412, error(412, text, "conditionNotMet")
        failure = operation_error or self._apply(group, call)
        operation = self._new_operation(group, call, failure)
        self._by_request[request_id] = operation["name"]
        return 200, operation

    def _apply(self, group: Group, call: Call) -> str:
        """Do it; give the code of what the operation fails with."""
        if call.action == "resize":
            self.world.resize(group, int(call.query["size"]))
            return ""
        members = _members(group, call.body["instances"])
        is_tolerant = call.body.get("skipInstancesOnValidationError", False)
        if len(members) < len(call.body["instances"]) and not is_tolerant:
            return "INVALID_USAGE"
        self.world.delete(group, members)
        return ""

    def _new_operation(self, group: Group, call: Call, failure: str) -> Document:
        number = next(self._numbers)
        place = {name: call.names[name] for name in ("zone", "region") if name in call.names}
        operation: Document = {
            "kind": "compute#operation",
            "id": str(number),
            "name": f"operation-{number}",
            "operationType": f"compute.{call.method}",
            "status": "RUNNING",
            "progress": 0,
            **place,
        }
        if failure:
            operation["error"] = {"errors": [{"code": failure, "message": f"the fake refuses {group.name}"}]}
        self._operations[operation["name"]] = operation
        return dict(operation)

    def _operation(self, name: str) -> tuple[int, Document]:
        operation = self._operations.get(name)
        if operation is None:
            return 404, error(404, f"The resource '{name}' was not found", "notFound")
        self._polls[name] = self._polls.get(name, 0) + 1
        if self._polls[name] > self.operation_polls:
            operation |= {"status": "DONE", "progress": 100}
        return 200, dict(operation)

    def _told(self, request: Request) -> tuple[int, Document]:
        """What a test tells a fake that runs as a program: POST /fake/preempt?name=..., /fake/replace?name=..."""
        url = urlsplit(request.target)
        acts = {"/fake/preempt": self.preempt, "/fake/replace": self.replace}
        names = parse_qs(url.query).get("name", [])
        if url.path not in acts or len(names) != 1:
            raise NotAllowed(f"the fake cannot be told {request.target}")
        acts[url.path](names[0])
        return 200, {}


def _ignore(call: Call) -> None:
    """Nobody wants to know."""


def _members(group: Group, named: Sequence[str]) -> list[Machine]:
    if len(named) > DELETES_AT_ONCE:
        raise NotAllowed(f"{len(named)} instances in one request are too many")
    if len({"/" in name for name in named}) > 1:
        raise NotAllowed("names and URLs of instances may not be mixed")
    return [machine for machine in group.machines if _is_named(machine, named)]


def _is_named(machine: Machine, named: Sequence[str]) -> bool:
    wanted = (_INSTANCE.fullmatch(name) for name in named)
    urls = {match.group(1) for match in wanted if match}
    return machine.name in named if machine.is_queued else machine.partial_url() in urls


def _is_uuid(text: str) -> bool:
    try:
        return uuid.UUID(text).int != 0 and str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


@contextmanager
def serving(fake: FakeComputeEngine, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve it, its time going on by itself; gives the address that `api_endpoint` takes."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(TICK_SECONDS):
            fake.advance()

    ticker = threading.Thread(target=tick)
    with discovery.serving(fake.answer, fake.violations, host=host, port=port) as endpoint:
        ticker.start()
        try:
            yield endpoint
        finally:
            ended.set()
            ticker.join()
            fake.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _parser().parse_args(arguments)
    times = Times(boot=options.boot, notice=options.notice, shutdown=options.shutdown, retry=options.retry)
    driver = Processes(shlex.split(options.run)) if options.run else NoDriver()
    fake = FakeComputeEngine(project=options.project, times=times, driver=driver)
    for text in options.group:
        fake.add(_read_group(text))
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with serving(fake, host=options.host, port=options.port) as endpoint:
        print(endpoint, flush=True)
        ended.wait()
    for violation in fake.violations:
        print(f"not allowed: {violation}", flush=True)


def _read_group(text: str) -> Group:
    """NAME:ZONE or NAME:REGION:ZONE,ZONE; =STOCK behind a zone."""
    name, *places = text.split(":")
    zones = dict(_read_zone(zone) for zone in places[-1].split(","))
    stock = {zone: int(room) for zone, room in zones.items() if room}
    return Group(name=name, zones=tuple(zones), region=places[0] if len(places) > 1 else "", stock=stock)


def _read_zone(text: str) -> tuple[str, str]:
    zone, _, room = text.partition("=")
    return zone, room


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.compute_engine", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--project", default="our-project")
    parser.add_argument("--group", action="append", required=True, metavar="NAME:[REGION:]ZONE[=STOCK][,...]")
    parser.add_argument("--run", default="", metavar="COMMAND", help="start this for each machine; see Processes")
    parser.add_argument("--boot", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--notice", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--shutdown", type=float, default=3.0, metavar="SECONDS")
    parser.add_argument("--retry", type=float, default=3.0, metavar="SECONDS")
    return parser


if __name__ == "__main__":
    main()
