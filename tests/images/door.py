"""A way in, from a network of machines, to a server that listens on this computer's loopback."""

import socket
import threading
from contextlib import suppress
from types import TracebackType


class Door:
    """While open, connections to `host`:`port` end at 127.0.0.1:`port`."""

    def __init__(self, host: str, port: int) -> None:
        self._port = port
        self._listener = socket.create_server((host, port))

    def __enter__(self) -> "Door":
        threading.Thread(target=self._accept, name=f"door-{self._port}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # close() alone would leave the thread in accept()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                visitor, _ = self._listener.accept()
                threading.Thread(target=self._let_in, args=(visitor,), daemon=True).start()

    def _let_in(self, visitor: socket.socket) -> None:
        # Either side may go away at any time.
        with visitor, suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as server:
            back = threading.Thread(target=_copy, args=(server, visitor), daemon=True)
            back.start()
            _copy(visitor, server)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
