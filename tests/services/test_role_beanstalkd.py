"""The proof of the role beanstalkd on a real beanstalkd."""

import socket
import threading

import pytest

from dist_test.local.daemons import Beanstalkd
from roles.beanstalkd.files import prove


def test_a_working_server_passes(beanstalkd: Beanstalkd) -> None:
    assert prove.main([f"127.0.0.1:{beanstalkd.port}"]) == 0


def test_a_server_that_gives_back_something_else_fails(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [b"USING t", b"WATCHING 2", b"WATCHING 1", b"INSERTED 1", b"RESERVED 2 3", b"abc"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_answer, args=(listener, answers))
        server.start()
        code = prove.main([f"127.0.0.1:{listener.getsockname()[1]}"])
        server.join()
    assert code == 1
    assert "put entry b'1'" in capsys.readouterr().err


def test_a_server_that_refuses_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=_answer, args=(listener, [b"USING t", b"OUT_OF_MEMORY"]))
        server.start()
        code = prove.main([f"127.0.0.1:{listener.getsockname()[1]}"])
        server.join()
    assert code == 1
    assert "answered with b'OUT_OF_MEMORY'" in capsys.readouterr().err


def _answer(listener: socket.socket, answers: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(b"".join(answer + b"\r\n" for answer in answers))
        while connection.recv(4096):
            pass
