"""What becomes of Compute Engine's refusals, hangs and lost answers."""

import socket
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from google.auth.credentials import AnonymousCredentials

from dist_test.errors import (
    CloudError,
    CloudForbidden,
    CloudQuotaExceeded,
    CloudRefused,
    CloudThrottled,
    CloudUnavailable,
    GroupAutoscaled,
    GroupNotFound,
    GroupPaused,
)
from dist_test_autoscale.breaker import GuardedFleet
from dist_test_autoscale.gce import ComputeFleet
from dist_test_autoscale.settings import GroupSettings

from ...fakes.clock import FakeClock
from ...fakes.compute_engine import FakeComputeEngine, Fault, serving
from ...fakes.instance_groups import Group, Times


@pytest.fixture
def fake() -> Iterator[FakeComputeEngine]:
    """Two groups; nothing against the API's rules may be asked of it."""
    fake = FakeComputeEngine(times=Times(boot=0.0))
    fake.add(Group(name="spot-b", zones=("us-central1-b",), target=2))
    fake.add(Group(name="spot-c", zones=("us-central1-c",), target=2))
    yield fake
    assert fake.violations == []
    assert fake.shrinks() == []


@pytest.fixture
def fleet(fake: FakeComputeEngine) -> Iterator[ComputeFleet]:
    with serving(fake) as endpoint:
        fleet = connect(endpoint)
        yield fleet
        fleet.close()


def connect(endpoint: str) -> ComputeFleet:
    """A client that waits for nothing between its tries."""
    return ComputeFleet(
        project="our-project",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth types only a part
        endpoint=endpoint,
        sleep=FakeClock().sleep,
    )


def group(name: str = "spot-b") -> GroupSettings:
    zone = name.replace("spot", "us-central1")
    return GroupSettings(name=name, zone=zone, region=None, priority=0, spot=True, min=0, max=100)


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def new_id() -> str:
    return str(uuid.uuid4())


@pytest.mark.parametrize(
    ("status", "reason", "kind", "tries"),
    [
        (400, "invalid", CloudRefused, 1),
        (401, "authError", CloudForbidden, 1),
        (403, "forbidden", CloudForbidden, 1),
        (403, "rateLimitExceeded", CloudThrottled, 1),
        (403, "userRateLimitExceeded", CloudThrottled, 1),
        (403, "quotaExceeded", CloudQuotaExceeded, 1),
        (404, "notFound", GroupNotFound, 1),
        (408, "timeout", CloudUnavailable, 3),
        (409, "resourceInUseByAnotherResource", CloudRefused, 1),
        (412, "conditionNotMet", CloudRefused, 1),
        (429, "rateLimitExceeded", CloudThrottled, 1),
        (500, "internalError", CloudUnavailable, 3),
        (502, "badGateway", CloudUnavailable, 3),
        (503, "backendError", CloudUnavailable, 3),
        (504, "timeout", CloudUnavailable, 3),
    ],
)
def test_a_refusal_is_one_of_ours(
    fake: FakeComputeEngine, fleet: ComputeFleet, status: int, reason: str, kind: type[CloudError], tries: int
) -> None:
    fake.faults = [Fault(action="resize", status=status, reason=reason, times=100)]

    with pytest.raises(CloudError, match="group spot-b in us-central1-b of project our-project") as caught:
        fleet.grow(group(), 1, new_id(), soon())

    assert type(caught.value) is kind
    assert len(fake.changes()) == tries
    assert fake.world.groups["spot-b"].target == 2


def test_a_missing_group_is_named_with_its_place(fleet: ComputeFleet) -> None:
    with pytest.raises(GroupNotFound, match=r"spot-x in us-central1-x of project our-project.*correct its name"):
        fleet.read(group("spot-x"), soon())


def test_a_group_that_another_autoscaler_sizes_is_left_alone(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.world.groups["spot-b"].autoscaler = True

    with pytest.raises(GroupAutoscaled, match="detach the autoscaler"):
        fleet.grow(group(), 1, new_id(), soon())


@pytest.mark.parametrize(
    ("code", "kind"),
    [("INVALID_USAGE", CloudRefused), ("QUOTA_EXCEEDED", CloudQuotaExceeded)],
    ids=["refused", "quota"],
)
def test_an_operation_that_fails_behind_a_good_answer_is_a_failure(
    fake: FakeComputeEngine, fleet: ComputeFleet, code: str, kind: type[CloudError]
) -> None:
    first, _ = fleet.read(group(), soon()).instances
    fake.faults = [Fault(action="deleteInstances", operation_error=code)]

    with pytest.raises(kind, match=f"deleteInstances of group spot-b .* failed: {code}"):
        fleet.delete(group(), [(first.name, first.id)], new_id(), soon())

    assert fleet.delete(group(), [(first.name, first.id)], new_id(), soon())
    assert fake.world.groups["spot-b"].target == 1


def test_an_operation_is_watched_until_it_ends(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.operation_polls = 3

    fleet.grow(group(), 1, new_id(), soon())

    assert [call.action for call in fake.calls].count("wait") == 4


@pytest.mark.parametrize("status", [404, 503])
def test_an_operation_that_cannot_be_watched_is_no_failure(
    fake: FakeComputeEngine, fleet: ComputeFleet, status: int
) -> None:
    fake.faults = [Fault(action="wait", status=status, reason="notFound", times=9)]

    assert fleet.grow(group(), 1, new_id(), soon()) == 1
    assert fleet.read(group(), soon()).target == 3


def test_too_many_requests_in_a_minute_throttle(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.per_minute = 2
    fleet.read(group(), soon())

    with pytest.raises(CloudThrottled):
        fleet.read(group(), soon())


def test_a_group_that_hangs_costs_no_more_than_the_deadline(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fleet.read(group(), soon())
    fake.faults = [Fault(group="spot-b", hangs=3.0, times=9)]
    began = time.monotonic()

    with pytest.raises(CloudUnavailable):
        fleet.read(group(), began + 1.0)

    assert time.monotonic() - began < 2.5
    assert fleet.read(group("spot-c"), soon()).target == 2


def test_a_change_after_the_deadline_is_not_sent(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    with pytest.raises(CloudUnavailable, match="no time is left"):
        fleet.grow(group(), 1, new_id(), time.monotonic())

    assert fake.calls == []


def test_a_server_that_is_down_and_up_again_is_found_again(fake: FakeComputeEngine) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    fleet = connect(f"http://127.0.0.1:{port}/compute/v1/")
    for _ in range(5):
        with pytest.raises(CloudUnavailable, match=r"no answer: .*refused"):
            fleet.read(group(), soon())

    with serving(fake, port=port):
        assert fleet.read(group(), soon()).target == 2
        fleet.close()


def test_a_kept_connection_that_broke_is_replaced(fake: FakeComputeEngine) -> None:
    with serving(fake) as endpoint:
        fleet = connect(endpoint)
        fleet.read(group(), soon())
        for connection in fleet._http(5.0).http.connections.values():
            connection.sock.shutdown(socket.SHUT_RDWR)

        assert fleet.read(group(), soon()).target == 2
        fleet.close()


def test_a_page_of_a_proxy_is_no_crash() -> None:
    page = (
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_all, args=(server, page, 3))
        thread.start()
        fleet = connect(f"http://127.0.0.1:{server.getsockname()[1]}/compute/v1/")
        with pytest.raises(CloudUnavailable, match="502"):
            fleet.read(group(), soon())
        fleet.close()
        thread.join()


def _answer_all(server: socket.socket, answer: bytes, times: int) -> None:
    for _ in range(times):
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)


def test_a_group_that_is_down_is_paused_and_the_others_go_on(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    clock = FakeClock()
    guarded = GuardedFleet(fleet, clock=clock.now, jitter=lambda: 0.0)
    fake.faults = [Fault(group="spot-b", status=503, times=9)]
    for _ in range(3):
        with pytest.raises(CloudUnavailable):
            guarded.read(group(), soon())
    with pytest.raises(GroupPaused, match=r"spot-b is left alone for 30 s more: get of group spot-b .* 503"):
        guarded.read(group(), soon())
    assert guarded.read(group("spot-c"), soon()).target == 2

    clock.sleep(30)

    assert guarded.read(group(), soon()).target == 2
    assert len([call for call in fake.calls if call.names.get("instanceGroupManager") == "spot-b"]) == 9 + 2


def test_a_third_of_all_calls_may_fail_for_long(fake: FakeComputeEngine, fleet: ComputeFleet) -> None:
    fake.error_rate = 0.35
    bought = 0
    for _ in range(30):
        target = fake.world.groups["spot-b"].target
        try:
            fleet.grow(group(), 1, new_id(), soon())
        except CloudError:
            # Not done, or done and not known: never done twice.
            assert fake.world.groups["spot-b"].target - target in (0, 1)
        else:
            bought += 1
            assert fake.world.groups["spot-b"].target == target + 1
    assert bought > 5
