"""What a connection may take of a web server, over pairs of sockets."""

import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test import connections
from dist_test.connections import MAX_HEAD_BYTES, PatientSocket, allow_files, has_head, linger

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: the server's, the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server, client:
        yield server, client


def is_told(server: socket.socket, sent: bytes, client: socket.socket) -> bool:
    """Whether the head is there once everything has arrived that was sent."""
    client.sendall(sent)
    deadline = time.monotonic() + 5
    while len(server.recv(2**17, socket.MSG_PEEK)) < len(sent) and time.monotonic() < deadline:
        pass
    return has_head(server)


def test_a_whole_head_is_noticed(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    assert is_told(server, HEAD + b"body", client)


def test_half_a_head_is_not_enough_and_a_poller_tells_of_the_rest(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    assert not is_told(server, HEAD[:10], client)
    server.settimeout(0.05)
    with pytest.raises(TimeoutError):
        server.recv(1, socket.MSG_PEEK)  # as a poller sees it: nothing, until there is more
    server.settimeout(5)
    client.sendall(HEAD[10:])
    server.recv(1, socket.MSG_PEEK)
    assert has_head(server)
    assert server.recv(100) == HEAD


def test_a_client_that_leaves_in_the_middle_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    assert not is_told(server, HEAD[:10], client)
    client.close()
    server.settimeout(5)
    assert server.recv(100, socket.MSG_PEEK) == HEAD[:10]
    assert has_head(server)


def test_a_head_without_end_is_left_to_the_parser(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    assert is_told(server, b"x" * MAX_HEAD_BYTES, client)


def test_a_quick_client_is_listened_to_for_as_long_as_it_sends(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = pair
    monkeypatch.setattr(connections, "MIN_BYTES_PER_SECOND", 100)
    patient = PatientSocket(server, patience_seconds=0.2)

    def send() -> None:
        for _ in range(20):
            client.sendall(b"x" * 100)
            time.sleep(0.05)
        client.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received = 0
    while found := patient.recv(2**16):
        received += len(found)
    sender.join()
    assert received == 2000


def test_a_client_that_drips_is_hung_up_on(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    patient = PatientSocket(server, patience_seconds=0.3)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.02):
            client.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    began = time.monotonic()
    received = 0
    while found := patient.recv(2**16):
        received += len(found)
    seconds = time.monotonic() - began
    stop.set()
    dripping.join()
    assert 0.2 < seconds < 3
    assert 0 < received < 100


def test_a_client_that_falls_silent_is_hung_up_on(pair: tuple[socket.socket, socket.socket]) -> None:
    server, _ = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    assert PatientSocket(server, patience_seconds=10).recv(10) == b""


def test_a_client_that_does_not_read_its_answer_is_hung_up_on(pair: tuple[socket.socket, socket.socket]) -> None:
    server, _ = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 100_000))
    with pytest.raises(BrokenPipeError, match="too long"):
        PatientSocket(server, patience_seconds=0.2).sendall(b"x" * 2**26)


def test_a_client_that_reads_gets_all_of_a_long_answer(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    answer = bytes(range(256)) * 2**14
    sending = threading.Thread(target=PatientSocket(server, patience_seconds=5).sendall, args=[answer])
    sending.start()
    received = bytearray()
    while len(received) < len(answer):
        received += client.recv(2**16)
    sending.join()
    assert received == answer


def test_what_came_quickly_buys_no_pause_longer_than_others(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    patient = PatientSocket(server, patience_seconds=0.2)
    client.sendall(b"x" * 30_000)
    left = 30_000
    while left:
        left -= len(patient.recv(left))
    late = threading.Timer(0.4, client.sendall, [b"y"])
    late.start()
    assert patient.recv(10) == b""
    late.join()


def test_time_in_which_nobody_reads_is_not_the_clients(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    patient = PatientSocket(server, patience_seconds=0.1)
    client.sendall(b"one")
    assert patient.recv(10) == b"one"
    time.sleep(0.3)
    client.sendall(b"two")
    assert patient.recv(10) == b"two"


def test_a_client_gets_the_whole_answer_though_it_was_not_read_to_its_end(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    client.sendall(b"x" * 1000)
    server.sendall(b"answer")

    def close() -> None:
        linger(server, is_heard_out=False)
        server.close()

    closing = threading.Thread(target=close)
    closing.start()
    assert client.recv(100) == b"answer"
    assert client.recv(100) == b""
    client.close()
    closing.join(5)
    assert not closing.is_alive()


def test_a_client_that_does_not_close_is_left_after_a_while(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = pair
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.1)
    began = time.monotonic()
    linger(server, is_heard_out=False)
    assert 0.05 < time.monotonic() - began < 2
    assert server.recv(1) == b"", "gunicorn's own wait for the client's end is over at once"


def test_a_client_that_was_heard_out_is_not_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    server.sendall(b"answer")
    linger(server, is_heard_out=True)
    server.settimeout(5)
    assert server.recv(1) == b"", "gunicorn's own wait is over at once"
    server.close()
    assert client.recv(100) == b"answer"
    assert client.recv(100) == b""


def test_the_limit_of_open_files_is_raised_as_far_as_it_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, hard = before
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        assert allow_files(300) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)
        assert allow_files(200) == 200
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (300, hard)
        assert allow_files(hard + 1) == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(list(Path("/proc/self/fd").iterdir())) < before[0]
