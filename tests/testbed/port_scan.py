"""Prints the TCP ports of HOST that accept a connection, as a JSON list: `port_scan.py HOST FIRST LAST`."""

import errno
import json
import select
import socket
import sys
import time

_AT_ONCE = 4000
_SECONDS = 1.0  # on a bridge of the same computer an answer takes less than a millisecond


def open_ports(host: str, first: int, last: int) -> list[int]:
    """Those that accept; one that neither accepts nor refuses within a second counts as closed."""
    found: list[int] = []
    for start in range(first, last + 1, _AT_ONCE):
        found += _open_among(host, range(start, min(start + _AT_ONCE, last + 1)))
    return found


def _open_among(host: str, ports: range) -> list[int]:
    waiting, found = {}, []
    poll = select.poll()
    for port in ports:
        connection = socket.socket()
        connection.setblocking(False)
        if connection.connect_ex((host, port)) not in (0, errno.EINPROGRESS):
            connection.close()
            continue
        waiting[connection.fileno()] = (port, connection)
        poll.register(connection, select.POLLOUT)
    deadline = time.monotonic() + _SECONDS
    while waiting and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            port, connection = waiting.pop(number)
            poll.unregister(number)
            if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(port)
            connection.close()
    for _, connection in waiting.values():
        connection.close()
    return found


if __name__ == "__main__":
    print(json.dumps(open_ports(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))  # its answer
