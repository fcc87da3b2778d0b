"""The contract of beanstalkd that everything else stands on: what a wrong idea of it gets wrong."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dist_test.errors import DeadlineSoon, QueueEntryGone, QueueEntryTooBig, QueueUnavailable
from dist_test.local.daemons import Beanstalkd
from dist_test.settings import BeanstalkSettings
from dist_test.storage.queue import Queue, Reservation


@pytest.fixture
def other(beanstalk_settings: BeanstalkSettings) -> Iterator[Queue]:
    """A second connection to the same tube."""
    queue = Queue(beanstalk_settings)
    yield queue
    queue.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Beanstalkd]:
    """A beanstalkd that a test may stop."""
    server = Beanstalkd(tmp_path / "beanstalkd", fsync_milliseconds=0)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_queue(own_server: Beanstalkd) -> Iterator[Queue]:
    """A connection to the server that a test may stop; it does not wait long."""
    queue = Queue(_settings(own_server), sleep=lambda seconds: time.sleep(seconds / 10))
    yield queue
    queue.close()


def _settings(server: Beanstalkd) -> BeanstalkSettings:
    return BeanstalkSettings(host=server.host, port=server.port, tube="t", time_to_run=timedelta(seconds=60))


def _reserve(queue: Queue) -> Reservation:
    reservation = queue.reserve(timeout_seconds=5)
    assert reservation is not None
    return reservation


def _wait(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_the_lowest_priority_is_first_and_equal_ones_stay_in_order(queue: Queue) -> None:
    queue.put_all([(9, "c"), (5, "a"), (5, "b")])
    assert [_reserve(queue).body for _ in range(3)] == ["a", "b", "c"]


def test_pipelined_puts_give_their_ids_in_order(queue: Queue) -> None:
    bodies = [f"body {number}" for number in range(1_200)]
    _, ids = queue.put_all([(1, body) for body in bodies])
    assert queue.peek_all(ids) == bodies
    assert queue.delete_all(ids) == 1_200
    assert queue.peek_all(ids[:3]) == [None, None, None]


def test_nothing_to_reserve_is_none(queue: Queue) -> None:
    assert queue.reserve(timeout_seconds=0) is None


def test_an_entry_comes_back_after_its_time_to_run(queue: Queue, other: Queue) -> None:
    queue.put("x", priority=1)
    lost = _reserve(queue)
    assert _reserve(other).entry == lost.entry
    with pytest.raises(QueueEntryGone):
        queue.touch(lost)


def test_touch_from_another_connection_does_not_count(queue: Queue, other: Queue) -> None:
    queue.put("x", priority=1)
    held = _reserve(queue)
    other.statistics()  # connects
    with pytest.raises(QueueEntryGone):
        other.touch(held)


def test_touching_keeps_an_entry(queue: Queue, other: Queue) -> None:
    queue.put("x", priority=1)
    held = _reserve(queue)
    until = time.monotonic() + 3  # longer than the two seconds of its time to run
    while time.monotonic() < until:
        queue.touch(held)
        assert other.reserve(timeout_seconds=0) is None
        time.sleep(0.1)  # touches ten times a second; the end is fixed, not waited for
    queue.finish(held)


def test_a_touched_reservation_comes_back_at_the_latest_when_its_connection_ends(queue: Queue, other: Queue) -> None:
    """Its time to run proves nothing: beanstalkd 1.12 may forget it (its issues 262, 380). The reconciler asks."""
    entry = queue.put("x", priority=1)
    held = _reserve(queue)
    queue.touch(held)
    assert other.is_reserved(entry)
    queue.close()
    assert _reserve(other).entry == entry
    assert not other.is_reserved(entry + 1_000_000)


def test_reserving_while_a_reservation_runs_out_says_so(queue: Queue) -> None:
    queue.put("x", priority=1)
    held = _reserve(queue)
    with pytest.raises(DeadlineSoon):
        queue.reserve(timeout_seconds=5)
    queue.touch(held)
    assert queue.reserve(timeout_seconds=0) is None


def test_a_body_over_the_servers_limit_is_refused(queue: Queue) -> None:
    limit = queue.max_body_bytes()
    queue.put("x" * limit, priority=1)
    with pytest.raises(QueueEntryTooBig):
        queue.put("x" * (limit + 1), priority=1)
    with pytest.raises(QueueEntryTooBig):
        queue.put_all([(1, "x" * (limit + 1))])
    assert queue.statistics().ready == 1


def test_a_released_entry_waits_out_its_delay(queue: Queue) -> None:
    queue.put("x", priority=7)
    held = _reserve(queue)
    assert queue.priority_of(held) == 7
    queue.release(held, priority=7, delay_seconds=1)
    assert queue.statistics().delayed == 1
    assert _reserve(queue).entry == held.entry


def test_entries_of_a_closed_connection_are_ready_again(queue: Queue, other: Queue) -> None:
    queue.put("x", priority=1)
    held = _reserve(queue)
    queue.close()
    assert _reserve(other).entry == held.entry
    with pytest.raises(QueueEntryGone):
        queue.finish(held)


def test_a_reserved_entry_cannot_be_deleted_by_others(queue: Queue, other: Queue) -> None:
    queue.put("x", priority=1)
    held = _reserve(queue)
    assert other.delete_all([held.entry]) == 0
    queue.finish(held)


def test_a_restart_gives_held_entries_back_and_changes_the_servers_id(own_server: Beanstalkd, own_queue: Queue) -> None:
    own_queue.put("x", priority=1)
    held, before = _reserve(own_queue), own_queue.server()
    own_server.kill()
    own_server.start()
    with pytest.raises(QueueEntryGone):
        own_queue.touch(held)
    again = _reserve(own_queue)
    assert (again.entry, again.body) == (held.entry, "x")
    assert own_queue.server() != before


def test_ids_start_at_one_again_when_the_disk_was_lost(own_server: Beanstalkd, own_queue: Queue) -> None:
    first = own_queue.put("old", priority=1)
    own_server.kill()
    own_server.wipe()
    own_server.start()
    assert own_queue.put("new", priority=1) == first
    assert own_queue.peek_all([first]) == ["new"]


def test_a_server_that_is_away_is_reported_after_a_few_tries(own_server: Beanstalkd, own_queue: Queue) -> None:
    own_server.stop()
    with pytest.raises(QueueUnavailable, match=rf"beanstalkd on 127\.0\.0\.1:{own_server.port} did not do its work"):
        own_queue.put("x", priority=1)


def _is_busy(queue: Queue) -> bool:
    if not queue._lock.acquire(blocking=False):
        return True
    queue._lock.release()
    return False


def test_touching_does_not_wait_for_a_connection_that_waits_for_work(queue: Queue) -> None:
    queue.put("x", priority=1)
    held = _reserve(queue)
    queue.finish(held)
    waiter = threading.Thread(target=lambda: queue.reserve(timeout_seconds=3))
    waiter.start()
    _wait(lambda: _is_busy(queue))
    began = time.monotonic()
    with pytest.raises(QueueEntryGone):
        queue.touch(held)
    assert time.monotonic() - began < 2.5
    waiter.join()
