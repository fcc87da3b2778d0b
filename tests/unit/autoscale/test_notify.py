"""What systemd hears, on a socket as it makes one."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test_autoscale.notify import READY, Systemd
from tests.fakes.clock import FakeClock


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        yield manager


def test_readiness_is_told(manager: socket.socket) -> None:
    Systemd({"NOTIFY_SOCKET": manager.getsockname()}).tell(READY)
    assert manager.recv(100) == b"READY=1"


def test_an_abstract_socket_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # Linux chooses a name in the abstract namespace
        manager.settimeout(5)
        name = manager.getsockname()[1:].decode()
        Systemd({"NOTIFY_SOCKET": f"@{name}"}).tell(READY)
        assert manager.recv(100) == b"READY=1"


def test_the_watchdog_is_fed_well_within_its_time(manager: socket.socket) -> None:
    clock = FakeClock()
    systemd = Systemd({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "60000000"}, clock=clock.now)
    for _ in range(12):
        clock.sleep(5)
        systemd.alive()
    manager.setblocking(False)
    assert [manager.recv(100) for _ in range(4)] == [b"WATCHDOG=1"] * 4
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_without_systemd_nothing_is_told() -> None:
    systemd = Systemd({})
    systemd.tell(READY)
    systemd.alive()


def test_a_manager_that_is_gone_hurts_nobody(tmp_path: Path) -> None:
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).tell(READY)
