"""Links between a client and a server that echoes: they pass bytes on, can be cut, and can be held up."""

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from .network import Link, Network


class _Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline():
            self.wfile.write(line)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


@pytest.fixture
def link(network: Network) -> Iterator[Link]:
    with _Server(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield network.link("client", "server", lambda: server.server_address[1])
        server.shutdown()
        thread.join()


def _connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=10)


def test_a_link_passes_on_what_it_gets(link: Link) -> None:
    line = b"x" * 1_000_000 + b"\n"
    with _connect(link) as connection:
        threading.Thread(target=connection.sendall, args=(line,)).start()
        assert connection.makefile("rb").readline() == line


def test_a_cut_drops_old_and_new_connections_until_it_is_healed(network: Network, link: Link) -> None:
    with _connect(link) as old:
        old.sendall(b"before\n")
        assert old.recv(7, socket.MSG_WAITALL) == b"before\n"
        network.cut([link])
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    with pytest.raises(ConnectionResetError), _connect(link) as refused:
        refused.recv(1)
    network.heal([link])
    with _connect(link) as new:
        new.sendall(b"after\n")
        assert new.recv(6, socket.MSG_WAITALL) == b"after\n"


def test_a_stall_keeps_what_is_sent_until_it_is_healed(network: Network, link: Link) -> None:
    with _connect(link) as connection:
        network.stall([link])
        connection.sendall(b"held up\n")
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        network.heal([link])
        connection.settimeout(10)
        assert connection.recv(8, socket.MSG_WAITALL) == b"held up\n"


def test_an_end_of_the_server_ends_the_connection_after_its_last_bytes(network: Network) -> None:
    class Parting(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"bye\n")

    with _Server(("127.0.0.1", 0), Parting) as server:
        threading.Thread(target=server.handle_request).start()
        with _connect(network.link("client", "server", lambda: server.server_address[1])) as connection:
            assert connection.makefile("rb").read() == b"bye\n"


def test_a_link_to_nobody_drops_its_connections(network: Network, free_port: int) -> None:
    link = network.link("client", "server", lambda: free_port)
    with pytest.raises(ConnectionResetError), _connect(link) as connection:
        connection.recv(1)
