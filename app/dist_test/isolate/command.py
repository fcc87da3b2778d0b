"""`dist-test-isolate`: the isolate server under gunicorn."""

import argparse
import hmac
import logging
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from dist_test.errors import ConfigurationError, DistTestError
from dist_test.isolate.store import BlobStore, DiskStore, S3Store
from dist_test.logs import set_up_logging
from dist_test.serving import WebServer, counts_of_all_workers
from dist_test.settings import IsolateSettings, load_isolate_settings
from dist_test.storage.results import Bucket

logger = logging.getLogger(__name__)

_SLOW_CLIENT_SECONDS = 60  # of silence, before its thread is needed for others
_SHUTDOWN_SECONDS = 2  # for answers under way; clients try again


def main() -> None:
    """Serve until SIGTERM. Exits 1 with a message when the configuration or the store cannot be used."""
    arguments = _parser().parse_args()
    try:
        settings = load_isolate_settings()
        set_up_logging("isolate", settings.log_dir)
        bind = arguments.bind or settings.bind
        store = open_store(settings)
        token_key = _token_key(settings)
    except DistTestError as exc:
        sys.exit(f"dist-test-isolate: {exc}")
    logger.info("Serving %s", settings.store, extra={"action": "isolate_started"})
    with counts_of_all_workers("isolate"):
        _Server(settings, bind, store, token_key).run()


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
    # One of its own: from it all workers would inherit one connection, and read each other's answers.
    Bucket.of(settings.aws).ensure_exists()
    return Bucket.of(settings.aws)


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


class _Server(WebServer):
    """Serves blobs until SIGTERM."""

    def __init__(self, settings: IsolateSettings, bind: str, store: BlobStore, token_key: str) -> None:
        self._store = store
        self._token_key = token_key
        options = {
            "bind": bind,
            "workers": settings.workers,
            "threads": settings.threads,
            "graceful_timeout": _SHUTDOWN_SECONDS,
            # A proxy says so of its clients, for the addresses that we give them. Who lies gets an address that fails.
            "forwarded_allow_ips": "*",
            "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
            "forwarder_headers": "",
        }
        super().__init__(options, silence_seconds=_SLOW_CLIENT_SECONDS)

    def load(self) -> Any:
        # In the worker: flask and prometheus_client must not be set up before the fork.
        from dist_test.isolate.server import create_app

        return create_app(self._store, token_key=self._token_key)
