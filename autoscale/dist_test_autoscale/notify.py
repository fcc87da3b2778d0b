"""Tell systemd how the service is: sd_notify(3), a datagram to the socket that it named."""

import os
import socket
import time
from collections.abc import Callable, Mapping

READY = "READY=1"
STOPPING = "STOPPING=1"
_ALIVE = "WATCHDOG=1"


class Systemd:
    """The manager that started us; nobody listens where there is none."""

    def __init__(self, environ: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = environ.get("NOTIFY_SOCKET", "")
        self._clock = clock
        # systemd kills who is silent for that long. A round in which MySQL hangs takes half of the usual minute.
        self.alive_every_s = int(environ.get("WATCHDOG_USEC") or 0) / 4e6
        self._last = clock()

    def tell(self, *words: str) -> None:
        """Send such as READY=1 or STATUS=text. What cannot be sent is lost: nothing depends on it."""
        if not self._path:
            return
        # A name that begins with @ is in the abstract namespace, where the first byte is 0.
        path = f"\0{self._path[1:]}" if self._path.startswith("@") else self._path
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.connect(path)
                sender.sendall("\n".join(words).encode())
            except OSError:
                return

    def alive(self) -> None:
        """The loop is alive: to be called often, and from nowhere else."""
        if self.alive_every_s and self._clock() - self._last >= self.alive_every_s:
            self._last = self._clock()
            self.tell(_ALIVE)
