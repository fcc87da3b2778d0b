"""gunicorn around the application: worker processes with threads, limits on what a client may take of them."""

import logging
import socket
import struct
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # gunicorn has no annotations
from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # gunicorn has no annotations

from dist_test.settings import MasterSettings

if TYPE_CHECKING:
    from dist_test.master.worker import Worker

logger = logging.getLogger(__name__)

GRACEFUL_SECONDS = 8  # and a little for the end itself: ten in all
SILENCE_SECONDS = 10  # of a client in the middle of a request, before its thread is needed for others
KEEPALIVE_SECONDS = 30  # several polls of a watcher
CONNECTIONS = 5000  # for each worker; an idle one costs a file descriptor
MAX_REQUEST_LINE = 4094


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """Serves until SIGTERM."""

    def __init__(self, settings: MasterSettings) -> None:
        self._settings = settings
        self.worker: Worker | None = None
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self._settings.bind,
            "workers": self._settings.workers,
            "threads": self._settings.threads,
            "worker_class": "gthread",
            "worker_connections": CONNECTIONS,
            "keepalive": KEEPALIVE_SECONDS,
            "graceful_timeout": GRACEFUL_SECONDS,
            "limit_request_line": MAX_REQUEST_LINE,
            "limit_request_fields": 50,
            "limit_request_field_size": 8190,
            # Whom to believe about clients is decided by master.trusted_proxies alone.
            "forwarded_allow_ips": "",
            "logger_class": _Logger,
            "accesslog": _access_log(self._settings),
            "when_ready": _limit_silence,
            "child_exit": _forget_worker,
            "worker_exit": _stop_worker,
        }
        # Newer ones open a socket for remote control in the home directory.
        if "control_socket_disable" in self.cfg.settings:
            options["control_socket_disable"] = True
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # After the fork: connections, threads and prometheus_client's files must not be inherited.
        from dist_test.master.worker import Worker

        self.worker = Worker(self._settings)
        return self.worker.application


class _Logger(Logger):  # type: ignore[misc]  # gunicorn has no annotations
    """Sends gunicorn's own messages where all others go."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def _access_log(settings: MasterSettings) -> str | None:
    return None if settings.log_dir is None else str(settings.log_dir / "server-access.log")


def _limit_silence(server: Any) -> None:
    # gthread reads a request in blocking mode, without a limit. On Linux a connection inherits the listener's limits.
    limit = struct.pack("ll", SILENCE_SECONDS, 0)
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        # A connection without a request would take a thread for five seconds: leave it to the kernel.
        listener.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENCE_SECONDS)
    logger.info("Serving on %s", ", ".join(map(str, server.LISTENERS)), extra={"action": "master_started"})


def _stop_worker(server: Any, _worker: Any) -> None:
    if server.app.worker is not None:
        server.app.worker.close()


def _forget_worker(_server: Any, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client has no annotation here
