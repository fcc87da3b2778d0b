"""The slave learns from the metadata server that its machine goes away."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dist_test.slave import preemption
from dist_test.slave.preemption import PreemptionWatch

from ...fakes.metadata import FakeMetadata


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    """No request may break the server's rules."""
    server = FakeMetadata()
    server.start()
    yield server
    server.stop()
    assert server.violations == []


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "SHORTEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def watch(metadata: FakeMetadata) -> Iterator[Callable[[], threading.Event]]:
    """Start a watch; gives what is set when it acts."""
    watches: list[PreemptionWatch] = []

    def start() -> threading.Event:
        acted = threading.Event()
        watches.append(PreemptionWatch(metadata.url, acted.set))
        watches[-1].start()
        return acted

    yield start
    for started in watches:
        started.stop()


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_the_news_of_a_preemption_is_acted_on_at_once(
    metadata: FakeMetadata, watch: Callable[[], threading.Event]
) -> None:
    acted = watch()
    assert until(lambda: metadata.watches == 2)  # it asked what is, and now waits for a change
    assert not acted.is_set()

    metadata.preempt()

    assert acted.wait(10)


def test_a_machine_that_is_going_already_is_noticed(
    metadata: FakeMetadata, watch: Callable[[], threading.Event]
) -> None:
    metadata.preempt()

    assert watch().wait(10)


def test_a_server_that_fails_is_asked_again(metadata: FakeMetadata, watch: Callable[[], threading.Event]) -> None:
    metadata.next_statuses.extend([503, 404, 500])
    metadata.preempt()

    assert watch().wait(10)
    assert metadata.watches == 4


def test_something_that_is_no_metadata_server_is_not_believed(
    metadata: FakeMetadata, watch: Callable[[], threading.Event], caplog: pytest.LogCaptureFixture
) -> None:
    metadata.is_genuine = False
    metadata.preempt()

    acted = watch()

    assert until(lambda: metadata.watches >= 3)
    assert not acted.is_set()
    assert "its answer lacks Metadata-Flavor: Google; correct slave.metadata_url" in caplog.text
