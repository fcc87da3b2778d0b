"""gunicorn as our web servers use it: it logs with us, limits what a client may take, and its workers die with it."""

import ctypes
import fcntl
import logging
import os
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # gunicorn has no annotations
from gunicorn.glogging import Logger  # type: ignore[import-untyped]  # gunicorn has no annotations
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]  # gunicorn has no annotations

from dist_test.connections import PatientWorker

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger(__name__)

MalformedBody = ParseException  # what reading a body raises that is not chunked as it should be

KEEPALIVE_SECONDS = 30  # several polls of a watcher
CONNECTIONS = 5000  # for each worker; an idle one costs a file descriptor
_SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it once, when it is imported
_PREFIX = "dist-test-counts-"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class WebServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """Serves until SIGTERM. Subclasses make the application in `load`, which every worker process calls once."""

    def __init__(self, options: Mapping[str, Any], *, silence_seconds: int) -> None:
        """`options` by gunicorn's names. `silence_seconds`: how long a client may pause in the middle of a request."""
        self.silence_seconds = silence_seconds
        self._options = {
            "worker_class": PatientWorker,
            "worker_connections": CONNECTIONS,
            "sendfile": False,  # socket.sendfile knows no limit of time
            "keepalive": KEEPALIVE_SECONDS,
            "logger_class": _Logger,
            "when_ready": lambda server: _limit_silence(server.LISTENERS, silence_seconds),
            "post_fork": _die_with_parent,
            "child_exit": _forget_counts,
            **options,
        }
        super().__init__()

    def load_config(self) -> None:
        # Newer ones open a socket for remote control in the home directory.
        if "control_socket_disable" in self.cfg.settings:
            self.cfg.set("control_socket_disable", True)
        for name, value in self._options.items():
            self.cfg.set(name, value)


@contextmanager
def counts_of_all_workers(program: str) -> Iterator[None]:
    """Have prometheus_client keep its counts in files that all workers share, until the context ends.

    Before prometheus_client is imported. What a program of this name left when it was killed is removed.
    """
    prefix = f"{_PREFIX}{program}-"
    _sweep(prefix)
    directory, descriptor = _make_locked(prefix)
    os.environ[_SHARED_DIRECTORY] = str(directory)
    own_pid = os.getpid()
    try:
        yield
    finally:
        # A worker that ends comes by here as well: gunicorn forks it inside the context.
        if os.getpid() == own_pid:
            shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def registry_of_all_workers(own: "CollectorRegistry") -> "CollectorRegistry":
    """Where to read the counts: those of all workers, or this process's `own` when nobody shares them."""
    if _SHARED_DIRECTORY not in os.environ:
        return own
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client has no annotation here
    return registry


class _Logger(Logger):  # type: ignore[misc]  # gunicorn has no annotations
    """Sends gunicorn's own messages where all others go."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def _limit_silence(listeners: Any, seconds: int) -> None:
    # gthread reads a request in blocking mode, without a limit. On Linux a connection inherits the listener's limits.
    limit = struct.pack("ll", seconds, 0)
    for listener in listeners:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    logger.info("Serving on %s", ", ".join(map(str, listeners)), extra={"action": "serving"})


def _die_with_parent(_server: Any, worker: Any) -> None:
    # A worker that ends by itself keeps the port for as long as its connections last, and nobody can start again.
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != worker.ppid:  # it died before we asked
        os._exit(1)


def _forget_counts(_server: Any, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client has no annotation here


def _make_locked(prefix: str) -> tuple[Path, int]:
    """A new directory, locked for as long as this process or a fork of it lives."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=prefix))
        if (descriptor := _lock(directory)) is not None:
            return directory, descriptor


def _sweep(prefix: str) -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        if (descriptor := _lock(directory)) is not None:
            shutil.rmtree(directory, ignore_errors=True)
            os.close(descriptor)


def _lock(directory: Path) -> int | None:
    """Lock a directory of ours; None when it is somebody else's, locked already, or was swept a moment ago."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_uid == os.geteuid() and os.path.samestat(os.fstat(descriptor), directory.stat()):
            return descriptor
    except OSError:
        logger.debug("%s is in use, or gone", directory)
    os.close(descriptor)
    return None
