"""`dist-test-isolate`: the isolate server under gunicorn, and the pruning of its store."""

import argparse
import hmac
import logging
import os
import secrets
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from dist_test.errors import ConfigurationError, DistTestError
from dist_test.isolate.store import BlobStore, DiskStore, S3Store
from dist_test.logs import set_up_logging
from dist_test.serving import WebServer, counts_of_all_workers
from dist_test.settings import IsolateSettings, load_isolate_settings, load_mysql_settings, values
from dist_test.storage.results import Bucket

logger = logging.getLogger(__name__)

_SLOW_CLIENT_SECONDS = 15  # of silence in an upload, before its thread is needed for others
_SHUTDOWN_SECONDS = 2  # for answers under way; clients try again


def main() -> None:
    """Serve until SIGTERM, or prune. Exits 1 with a message when the configuration or the store cannot be used."""
    arguments = _parser().parse_args()
    try:
        settings = load_isolate_settings()
        set_up_logging("isolate", settings.log_dir if arguments.command is None else None)
        store = open_store(settings)
        if arguments.command == "prune":
            sys.exit(_prune(arguments, store))
        bind = arguments.bind or settings.bind
        token_key = _token_key(settings)
    except DistTestError as exc:
        sys.exit(f"dist-test-isolate: {exc}")
    logger.info("Serving %s", settings.store, extra={"action": "isolate_started"})
    with counts_of_all_workers("isolate"):
        _Server(settings, bind, store, token_key).run()


def _prune(arguments: argparse.Namespace, store: BlobStore) -> int:
    from dist_test.isolate.prune import run_prune

    mysql = load_mysql_settings()
    return run_prune(store, mysql, arguments.older_than, _say, is_dry=arguments.dry_run, as_json=arguments.json)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # the command's answer


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
    commands = parser.add_subparsers(dest="command", title="instead of serving")
    _add_prune(commands.add_parser("prune", help="remove blobs that no job needs and nobody asks for any more"))
    return parser


def _add_prune(prune: argparse.ArgumentParser) -> None:
    prune.description = (
        "Remove the blobs that nobody has sent or asked for in a long time, and that no job in the database needs."
        " Runs beside the server, on its host for a store on disk. Needs section [mysql] too, with an account that has"
        " the rights of `isolate`."
    )
    prune.add_argument(
        "--older-than",
        type=_age,
        required=True,
        metavar="AGE",
        help="since when nobody has asked for a blob: 12h, 30d, 8w; 1h at least",
    )
    prune.add_argument("--dry-run", action="store_true", help="remove nothing; list what would be removed")
    prune.add_argument("--json", action="store_true", help="say it as one JSON document")


def _age(text: str) -> timedelta:
    try:
        return values.age(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; {exc}") from exc


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
