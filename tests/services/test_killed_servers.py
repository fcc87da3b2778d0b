"""What a web server of ours leaves behind when nobody gives it time to clean up."""

import os
import signal
import socket
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from dist_test.local import services
from dist_test.local.ports import is_free
from dist_test.local.program import is_ok, wait_until

AT_ONCE = timedelta(seconds=1)
SOON = timedelta(seconds=15)


class IsolateServer(services.IsolateServer):
    """The program, with its settings in the environment and a directory for temporary files of its own."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir, state_dir / "unused")
        self.temporary = state_dir / "tmp"

    def _prepare(self) -> None:
        self.temporary.mkdir(exist_ok=True)

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.state_dir),
            "TMPDIR": str(self.temporary),
            "DIST_TEST_LOG_DIR": str(self.state_dir / "logs"),
            "DIST_TEST_ISOLATE_SERVER_BIND": f"127.0.0.1:{self.port}",
            "DIST_TEST_ISOLATE_SERVER_STORE": f"disk:{self.state_dir}/store",
        }


@pytest.fixture
def server(tmp_path: Path) -> Iterator[IsolateServer]:
    server = IsolateServer(tmp_path / "isolate")
    server.start()
    yield server
    server.stop()


def test_the_workers_of_a_killed_server_free_its_port_at_once(server: IsolateServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"POST /content-gs/handshake HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        os.kill(server.pid, signal.SIGKILL)  # not its group: the workers must notice by themselves

        assert wait_until(lambda: not server.is_running and is_free(server.port), limit=AT_ONCE)


def test_a_killed_server_starts_again_and_removes_what_it_left(server: IsolateServer) -> None:
    left = list(server.temporary.iterdir())
    server.kill()
    server.start()

    assert is_ok(server.port, "/metrics")
    assert len(left) == 1
    assert not left[0].exists()
    assert len(list(server.temporary.iterdir())) == 1


def test_a_worker_that_ends_leaves_the_counts_to_the_others(server: IsolateServer) -> None:
    (counts,) = server.temporary.iterdir()
    old = workers_of(server.pid)
    os.kill(old[0], signal.SIGTERM)

    assert wait_until(lambda: old[0] not in workers_of(server.pid) and len(workers_of(server.pid)) == 2, limit=SOON)
    assert counts.is_dir()
    assert wait_until(lambda: all(is_ok(server.port, "/metrics") for _ in range(5)), limit=SOON)


def workers_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_server_that_is_stopped_leaves_nothing(server: IsolateServer) -> None:
    server.stop()

    assert list(server.temporary.iterdir()) == []


def test_a_server_leaves_the_counts_of_another_one_alone(server: IsolateServer, tmp_path: Path) -> None:
    other = IsolateServer(tmp_path / "other")
    other.temporary = server.temporary
    other.start()
    try:
        assert is_ok(server.port, "/metrics")
        assert len(list(server.temporary.iterdir())) == 2
    finally:
        other.stop()


def test_a_log_directory_gets_the_isolate_servers_log(server: IsolateServer) -> None:
    assert " INFO dist_test.serving: Serving on " in (server.state_dir / "logs/isolate.log").read_text()
