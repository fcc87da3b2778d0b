"""`dist-test-isolate`: the isolate server under gunicorn."""

import argparse
import hmac
import logging
import os
import secrets
import shutil
import socket
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]  # gunicorn has no annotations

from dist_test.errors import ConfigurationError, DistTestError
from dist_test.isolate.store import BlobStore, DiskStore, S3Store
from dist_test.settings import IsolateSettings, load_isolate_settings
from dist_test.storage.results import Bucket

logger = logging.getLogger(__name__)

_SLOW_CLIENT_SECONDS = 60  # of silence, before its thread is needed for others
_SHUTDOWN_SECONDS = 2  # for answers under way; clients try again
_SHARED_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # also in server_metrics, which must not be imported before it is set


def main() -> None:
    """Serve until SIGTERM. Exits 1 with a message when the configuration or the store cannot be used."""
    arguments = _parser().parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = load_isolate_settings()
        bind = arguments.bind or settings.bind
        store = open_store(settings)
        token_key = _token_key(settings)
    except DistTestError as exc:
        sys.exit(f"dist-test-isolate: {exc}")
    counts = tempfile.mkdtemp(prefix="dist-test-isolate-")
    os.environ[_SHARED_DIRECTORY] = counts
    logger.info("serving %s on %s", settings.store, bind, extra={"action": "isolate_started"})
    try:
        _Server(settings, bind, store, token_key).run()
    finally:
        shutil.rmtree(counts, ignore_errors=True)


def open_store(settings: IsolateSettings) -> BlobStore:
    """The store that the settings name. Raises ConfigurationError, or ResultStoreUnavailable."""
    kind, _, where = settings.store.partition(":")
    if kind == "s3":
        return S3Store(_bucket(settings))
    try:
        return DiskStore(Path(where))
    except OSError as exc:
        raise ConfigurationError(f"isolate_server.store is {settings.store}: {exc}") from exc


def _bucket(settings: IsolateSettings) -> Bucket:
    if settings.aws is None:
        raise ConfigurationError(f"isolate_server.store is {settings.store}; section [aws] must say how to reach it")
    bucket = Bucket(
        settings.aws.bucket,
        endpoint_url=settings.aws.endpoint_url,
        access_key=settings.aws.access_key,
        secret_key=settings.aws.secret_key,
        region=settings.aws.region,
    )
    bucket.ensure_exists()
    return bucket


def _token_key(settings: IsolateSettings) -> str:
    """The key of upload tickets: all workers, and all servers of one bucket, must have the same."""
    if settings.token_key:
        return settings.token_key
    if settings.aws is not None:
        return hmac.digest(settings.aws.secret_key.encode(), b"dist_test isolate tickets", "sha256").hex()
    return _kept_key(Path(settings.store.partition(":")[2]) / "token_key")


def _kept_key(path: Path) -> str:
    # Kept, so that tickets outlive a restart.
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as target:
            target.write(secrets.token_hex(32))
    except FileExistsError:
        logger.debug("using the key in %s", path)
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}") from exc
    return path.read_text() or _refuse_empty(path)


def _refuse_empty(path: Path) -> str:
    raise ConfigurationError(f"{path} is empty; remove it, and a new key will be made")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dist-test-isolate",
        description="Serve blobs to developers and slaves. Settings: section [isolate_server] of dist_test.cnf.",
    )
    parser.add_argument("--bind", metavar="HOST:PORT", help="listen here instead of isolate_server.bind")
    return parser


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn with our settings instead of its command line."""

    def __init__(self, settings: IsolateSettings, bind: str, store: BlobStore, token_key: str) -> None:
        self._settings = settings
        self._bind = bind
        self._store = store
        self._token_key = token_key
        super().__init__()

    def load_config(self) -> None:
        options: dict[str, Any] = {
            "bind": self._bind,
            "workers": self._settings.workers,
            "threads": self._settings.threads,
            "worker_class": "gthread",
            "keepalive": 30,
            "graceful_timeout": _SHUTDOWN_SECONDS,
            "errorlog": "-",
            "when_ready": _limit_silence,
            "child_exit": _forget_worker,
        }
        # Newer ones open a socket for remote control in the home directory.
        if "control_socket_disable" in self.cfg.settings:
            options["control_socket_disable"] = True
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        # In the worker: flask and prometheus_client must not be set up before the fork.
        from dist_test.isolate.server import create_app

        return create_app(self._store, token_key=self._token_key)


def _limit_silence(server: Any) -> None:
    # gthread reads a request in blocking mode, for ever. On Linux an accepted socket inherits these from the listener.
    limit = struct.pack("ll", _SLOW_CLIENT_SECONDS, 0)
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _forget_worker(_server: Any, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]  # prometheus_client has no annotation here
