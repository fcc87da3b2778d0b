"""Clients that are many, slow, silent or send too much: the master and the isolate server go on serving others."""

import http.client
import resource
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from dist_test.isolate.command import _SLOW_CLIENT_SECONDS
from dist_test.master.server import SILENCE_SECONDS

from ..farm import Farm, wait

THREADS = 16  # of each server: two workers, eight threads in each
MANY = 10_000
AT_ONCE_SECONDS = 3.0  # on a machine that runs other tests as well
PATIENCE_SECONDS = {"master": SILENCE_SECONDS, "isolate": _SLOW_CLIENT_SECONDS}
# What is read of a body that was refused already, so that its client reads why, and what lies in buffers.
TAKEN_MEGABYTES = {"master": 64, "isolate": 256}
SERVERS = ["master", "isolate"]
# What reads a body, and so waits for it.
UPLOAD = {
    "master": b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
    "isolate": b"POST /content-gs/handshake HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Farm]:
    """Both servers, as they are started in a cluster."""
    directory = Path(tempfile.mkdtemp(prefix="dist_test-farm-", dir="/var/tmp"))
    farm = Farm(directory)
    farm.start()
    yield farm
    farm.stop()
    shutil.rmtree(directory)


def _port(farm: Farm, server: str) -> int:
    return farm.master.port if server == "master" else farm.isolate.port


def _ask(port: int, seconds: float = 30) -> float:
    """Ask whether the server is well, on a connection of its own; how long the answer took."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    return time.monotonic() - began


@contextmanager
def _open(port: int, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections, and send something on each."""
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.sendall(first)
            connections.append(connection)
        yield connections


@contextmanager
def _dripping(connections: list[socket.socket]) -> Iterator[None]:
    """Have a byte come on each connection every half second."""
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.5):
            for connection in connections:
                try:
                    connection.send(b"x")
                except OSError:
                    continue  # hung up on

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed it, whatever it said before."""
    connection.setblocking(False)
    try:
        while connection.recv(2**16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("server", SERVERS)
def test_ten_thousand_silent_connections_keep_nobody_waiting(servers: Farm, server: str) -> None:
    port = _port(servers, server)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MANY + 1000), hard))
    try:
        with _open(port, MANY) as connections:
            worst = max(_ask(port) for _ in range(20))
            # More than are allowed: those that have been there longest are closed.
            wait(lambda: any(map(_is_closed, connections[: MANY // 2])), 5)
            assert not _is_closed(connections[-1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(f"with {MANY} silent connections the {server} answers within {worst:.3f} s")
    assert worst < AT_ONCE_SECONDS


@pytest.mark.parametrize("server", SERVERS)
def test_half_a_request_takes_no_thread(servers: Farm, server: str) -> None:
    port = _port(servers, server)
    with _open(port, 300, UPLOAD[server] + b"X-Slow: ") as connections, _dripping(connections):
        worst = max(_ask(port) for _ in range(20))
    print(f"with 300 dripping heads the {server} answers within {worst:.3f} s")
    assert worst < AT_ONCE_SECONDS


def test_a_body_that_drips_is_given_up_and_others_are_served(servers: Farm) -> None:
    """Both servers at once: each waits for as long as its patience lasts."""
    with ExitStack() as stack:
        dripping = {}
        for server in SERVERS:
            head = UPLOAD[server] + b"Content-Length: 100000\r\n\r\n"
            dripping[server] = stack.enter_context(_open(_port(servers, server), THREADS, head))
            stack.enter_context(_dripping(dripping[server]))
        for server, connections in dripping.items():
            patience = PATIENCE_SECONDS[server]
            seconds = _ask(_port(servers, server), seconds=2 * patience + 15)
            print(f"with {THREADS} dripping bodies, as many as threads, the {server} answers after {seconds:.1f} s")
            # One worker may have more of them than it has threads: then it is the second turn that ends.
            assert seconds < 2 * patience + 5
            wait(lambda connections=connections: any(map(_is_closed, connections)), patience + 5)  # type: ignore[misc]  # bound now
    for server in SERVERS:
        assert _ask(_port(servers, server)) < AT_ONCE_SECONDS


@pytest.mark.parametrize("server", SERVERS)
def test_clients_that_leave_their_connections_open_after_the_answer_keep_nobody_waiting(
    servers: Farm, server: str
) -> None:
    port = _port(servers, server)
    with _open(port, 3 * THREADS, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as connections:
        worst = max(_ask(port) for _ in range(10))
        wait(lambda: all(map(_is_closed, connections)))
    print(f"with {3 * THREADS} connections left open the {server} answers within {worst:.3f} s")
    assert worst < 2 * AT_ONCE_SECONDS


@pytest.mark.parametrize("server", SERVERS)
def test_a_gibibyte_is_refused_and_most_of_it_is_not_taken(servers: Farm, server: str) -> None:
    port = _port(servers, server)
    head = UPLOAD[server] + b"Content-Length: 1073741824\r\n\r\n"
    sent_megabytes = 0
    with _open(port, 1, head) as [connection], suppress(OSError):  # the server hangs up
        while sent_megabytes < 1024:
            connection.sendall(b"x" * 2**20)
            sent_megabytes += 1
    with _open(port, 1, head + b"{") as [connection]:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    print(f"the {server} takes {sent_megabytes} MiB of a GiB")
    assert sent_megabytes < TAKEN_MEGABYTES[server]
    assert _ask(port) < AT_ONCE_SECONDS
