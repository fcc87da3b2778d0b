#!/usr/bin/python3
"""beanstalkd-prove HOST:PORT: put an entry, reserve it and delete it; exit status 1 if that cannot be done."""

import socket
import sys
import time
import uuid
from collections.abc import Sequence
from io import BufferedRWPair

BODY = b"put by the role beanstalkd"
# A server that was just started reads its log first.
START_SECONDS = 60
ANSWER_SECONDS = 10
PAUSE_SECONDS = 0.2


class ProofError(Exception):
    """The server answered otherwise than it should have."""


def main(words: Sequence[str]) -> int:
    (authority,) = words
    host, _, port = authority.rpartition(":")
    try:
        with connect(host.strip("[]"), int(port)) as connection, connection.makefile("rwb") as stream:
            prove(stream)
    except (OSError, ProofError) as exc:
        sys.stderr.write(f"beanstalkd-prove: beanstalkd at {authority} does not do its work: {exc}\n")
        return 1
    return 0


def connect(host: str, port: int) -> socket.socket:
    """Try until the server listens. Raises OSError after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection((host, port), timeout=ANSWER_SECONDS)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE_SECONDS)


def prove(stream: BufferedRWPair) -> None:
    """Send one entry around, in a tube that ends with the connection. Raises ProofError."""
    tube = f"proof-{uuid.uuid4()}".encode()
    _ask(stream, b"use %b" % tube, b"USING")
    _ask(stream, b"watch %b" % tube, b"WATCHING")
    _ask(stream, b"ignore default", b"WATCHING")
    (entry,) = _ask(stream, b"put 0 0 60 %d\r\n%b" % (len(BODY), BODY), b"INSERTED")
    reserved, _size = _ask(stream, b"reserve-with-timeout 5", b"RESERVED")
    body = stream.readline().rstrip()
    if (reserved, body) != (entry, BODY):
        raise ProofError(f"put entry {entry!r} with {BODY!r}, reserved {reserved!r} with {body!r}")
    _ask(stream, b"delete %b" % entry, b"DELETED")


def _ask(stream: BufferedRWPair, command: bytes, expected: bytes) -> list[bytes]:
    stream.write(command + b"\r\n")
    stream.flush()
    word, *values = stream.readline().split() or [b"the end of the connection"]
    if word != expected:
        raise ProofError(f"{command!r} was answered with {word!r}")
    return values


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
