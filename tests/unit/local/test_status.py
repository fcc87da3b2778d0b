"""What a cluster says about itself, and the lock that says whether it is up."""

import os
import threading
from pathlib import Path

import pytest

from dist_test.errors import LocalClusterError
from dist_test.local.configuration import Files
from dist_test.local.status import ClusterStatus, hold_lock, lock_holder, read_status


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(state_dir=tmp_path)


def test_the_holder_is_known_as_long_as_it_holds(files: Files) -> None:
    with hold_lock(files):
        assert lock_holder(files.lock) == os.getpid()
    assert lock_holder(files.lock) is None


def test_a_second_holder_is_told_of_the_first(files: Files) -> None:
    with hold_lock(files), pytest.raises(LocalClusterError, match=rf"up in .* already \(pid {os.getpid()}\)"):
        hold_lock(files).__enter__()


def test_what_a_killed_holder_said_does_not_count_for_the_next(files: Files) -> None:
    ClusterStatus(is_ready=True, master_url="http://127.0.0.1:1", isolate_url="", programs=()).write(files.status)
    with hold_lock(files), pytest.raises(LocalClusterError, match="no cluster is up"):
        read_status(files.state_dir)


def test_whoever_asks_for_the_holder_does_not_stand_in_its_way(files: Files) -> None:
    files.lock.touch()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            lock_holder(files.lock)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(200):
            with hold_lock(files):
                pass
    finally:
        done.set()
        asking.join()
