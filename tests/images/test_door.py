"""The way in that machines take to servers on loopback."""

import socket
import threading

from .door import Door


def test_what_goes_in_at_one_end_comes_out_at_the_other(free_port: int) -> None:
    def echo(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(connection.recv(100).upper())

    server = socket.create_server(("127.0.0.1", free_port))
    threading.Thread(target=echo, args=(server,), daemon=True).start()
    with server, Door("127.0.0.2", free_port), socket.create_connection(("127.0.0.2", free_port), 10) as visitor:
        visitor.sendall(b"knock")
        assert visitor.recv(100) == b"KNOCK"
        assert visitor.recv(100) == b""


def test_a_server_that_is_away_closes_the_door_behind_the_visitor(free_port: int) -> None:
    with Door("127.0.0.2", free_port), socket.create_connection(("127.0.0.2", free_port), 10) as visitor:
        assert visitor.recv(100) == b""
