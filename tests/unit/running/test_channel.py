"""Messages over a socket pair."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from dist_test.running.channel import receive, send
from dist_test.running.tree import TreeEntry
from dist_test.running.wire import Command, Done, Ended, Files, Work


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_work_arrives_as_it_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    work = Work(
        serial=3,
        files=Files(
            entries=[TreeEntry("caf\udce9", "/b", 0o644), TreeEntry("l", link="x")], isolated="{}", relative_cwd=""
        ),
        command=Command(
            argv=["x"], cwd="/", env={"A": "\n"}, timeout_seconds=1.5, kill_grace_seconds=5, output_limit_bytes=1
        ),
        archive=["*"],
    )
    send(pair[0], work)
    assert Work.from_message(receive(pair[1])[0]) == work


def test_an_answer_arrives_as_it_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    done = Done(ended=Ended(outcome="failed", exit_status=-9, seconds=0.25), archived=2, notes=("a", "b"))
    send(pair[0], done)
    assert Done.from_message(receive(pair[1])[0]) == done


def test_descriptors_arrive_with_their_message_and_are_not_inherited(pair: tuple[socket.socket, socket.socket]) -> None:
    read_end, write_end = os.pipe()
    send(pair[0], {"cancel": 1})
    send(pair[0], {"work": 1}, (write_end,))
    send(pair[0], {"cancel": 2})
    received = [receive(pair[1]) for _ in range(3)]
    assert [len(fds) for _, fds in received] == [0, 1, 0]
    (passed,) = received[1][1]
    assert not os.get_inheritable(passed)
    for fd in (read_end, write_end, passed):
        os.close(fd)


def test_a_message_larger_than_the_socket_buffer_arrives_whole(pair: tuple[socket.socket, socket.socket]) -> None:
    message = {"text": "x" * 3_000_000}
    sender = threading.Thread(target=send, args=(pair[0], message))
    sender.start()
    assert receive(pair[1])[0] == message
    sender.join()


def test_the_other_side_going_away_is_an_end_of_file(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        receive(pair[1])
