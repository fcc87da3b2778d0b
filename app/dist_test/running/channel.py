"""Messages between a Runner and its launcher: length-prefixed JSON and file descriptors over a Unix stream socket."""

import json
import socket
from array import array
from typing import Any

_HEADER_BYTES = 4
_MAX_FDS = 3
_ANCILLARY_BYTES = socket.CMSG_LEN(_MAX_FDS * array("i").itemsize)

# vars() makes our frozen records JSON objects at any depth; NamedTuples become arrays by themselves.
_encode = json.JSONEncoder(default=vars, separators=(",", ":")).encode


def send(sock: socket.socket, message: object, fds: tuple[int, ...] = ()) -> None:
    """Send one message whole. Raises OSError when the other side is gone."""
    body = _encode(message).encode()
    data = len(body).to_bytes(_HEADER_BYTES, "big") + body
    sent = socket.send_fds(sock, [data], fds) if fds else sock.send(data)
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])


def send_if_room(sock: socket.socket, message: object, fd: int) -> bool:
    """Send one short message with a descriptor, unless that would have to wait: False then. Raises OSError."""
    body = _encode(message).encode()
    data = len(body).to_bytes(_HEADER_BYTES, "big") + body
    try:
        # So short a message is taken whole or not at all.
        socket.send_fds(sock, [data], [fd], socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    return True


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Wait for one message and return it with the descriptors that came along, which the caller must close.

    Raises EOFError when the other side is gone.
    """
    # The descriptors travel with the first byte. Reading the header by itself means that no more than
    # one message is ever taken from the socket, so there is no buffer to keep.
    # socket.recv_fds() would do, but for ignoring its flags: a task must not inherit what we receive.
    header, ancillary, _, _ = sock.recvmsg(_HEADER_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    fds = array("i", b"".join(data for _, _, data in ancillary)).tolist()
    header += _exactly(sock, _HEADER_BYTES - len(header)) if header else b""
    if not header:
        raise EOFError
    return json.loads(_exactly(sock, int.from_bytes(header, "big"))), fds


def _exactly(sock: socket.socket, size_bytes: int) -> bytes:
    data = b""
    while len(data) < size_bytes:
        part = sock.recv(size_bytes - len(data))
        if not part:
            raise EOFError
        data = data + part if data else part
    return data
