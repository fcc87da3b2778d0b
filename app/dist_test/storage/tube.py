"""The totals of the tube of attempts, for one who only looks: neither using nor watching it, which would make it."""

import socket
from dataclasses import dataclass

import greenstalk

from dist_test.errors import QueueUnavailable
from dist_test.settings import BeanstalkSettings

ANSWER_SECONDS = 3.0  # beanstalkd answers within milliseconds; who decides every few seconds cannot wait for more
_FAILURES = (OSError, EOFError, ValueError, greenstalk.Error)


@dataclass(frozen=True, kw_only=True)
class TubeReading:
    """The tube's totals. `server` is the id that each start of beanstalkd makes anew. `is_missing`: no such tube."""

    server: str
    ready: int = 0
    reserved: int = 0
    delayed: int = 0
    buried: int = 0
    is_paused: bool = False
    is_missing: bool = False


class Tube:
    """One connection to beanstalkd, opened when first needed and again when lost. For one thread."""

    def __init__(self, settings: BeanstalkSettings) -> None:
        self._settings = settings
        self._client: greenstalk.Client[str] | None = None

    def read(self) -> TubeReading:
        """The tube's totals now. Raises QueueUnavailable within seconds."""
        try:
            return self._read()
        except _FAILURES:
            self.close()  # beanstalkd may have restarted: a new connection tells
        try:
            return self._read()
        except _FAILURES as exc:
            self.close()
            where = f"{self._settings.host}:{self._settings.port}"
            raise QueueUnavailable(f"beanstalkd on {where} tells nothing: {exc or type(exc).__name__}") from exc

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _read(self) -> TubeReading:
        client = self._connect()
        server = client.stats()["id"]
        try:
            tube = client.stats_tube(self._settings.tube)
        except greenstalk.NotFoundError:
            return TubeReading(server=server, is_missing=True)
        return TubeReading(
            server=server,
            ready=tube["current-jobs-ready"],
            reserved=tube["current-jobs-reserved"],
            delayed=tube["current-jobs-delayed"],
            buried=tube["current-jobs-buried"],
            is_paused=tube["pause"] > 0,
        )

    def _connect(self) -> "greenstalk.Client[str]":
        if self._client is None:
            address = (self._settings.host, self._settings.port)
            # The timeout stays with the socket.
            self._client = greenstalk.Client(socket.create_connection(address, timeout=ANSWER_SECONDS))
        return self._client
