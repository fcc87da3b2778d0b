"""`dist-test run-isolated`: run one task on this machine, as a slave would."""

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import click

from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.isolate_flags import PythonCommand
from dist_test.cli.run_isolated_task import Outputs, Ran, TaskOptions, run_task, upload_outputs
from dist_test.errors import ConfigurationError, DistTestError
from dist_test.isolate.cache import BlobCache, BlobSource, CacheLimits
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.digest import digest_bytes, is_digest
from dist_test.model.job import MAX_TIMEOUT_SECONDS
from dist_test.settings import ClientSettings, load_client_settings

logger = logging.getLogger(__name__)

_LOG_FORMAT = "%(levelname)-8s %(process)5d  %(module)s(%(lineno)d): %(message)s"
_JSON_VERSION = 5  # luci-py run_isolated.py, 2020
# Accepted by name to be refused with a reason: they change what runs, so that ignoring them would mislead.
_REFUSED = {
    "indir": "files come from an isolate server; give --isolate-server",
    "named_cache": "there are no named caches here",
    "output": "write what is to be kept to ${ISOLATED_OUTDIR}",
}


class Seconds(click.FloatRange):
    """Seconds, a week's at most, as for a task on the cluster."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. A range alone lets `nan` pass."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return number


SECONDS = Seconds(0, MAX_TIMEOUT_SECONDS)


@click.command("run-isolated", cls=PythonCommand)
@click.option("-H", "--hash", "isolated_hash", metavar="HASH", help="The task's isolate hash.")
@click.option("-s", "--isolated", metavar="FILE", help="The task's .isolated file, or its HASH.")
@click.option("-I", "--isolate-server", metavar="URL", help="Default: ISOLATE_SERVER, or the configuration's.")
@click.option("--namespace", metavar="NAME", help="Namespace on the server; default: the configuration's.")
@click.option("--leak-temp-dir", is_flag=True, help="Keep the directory in which it ran, to look at.")
@click.option("--root-dir", metavar="DIR", type=Path, help="Run it in a directory below this one; default: TMPDIR.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Directory for downloaded files.")
@click.option("--max-cache-size", metavar="BYTES", type=click.IntRange(0), help="What the cache may hold.")
@click.option("--min-free-space", metavar="BYTES", type=click.IntRange(0), help="What the cache leaves free.")
@click.option("--max-items", metavar="N", type=click.IntRange(0), help="How many files the cache may hold.")
@click.option("--clean", is_flag=True, help="Only tidy the cache up.")
@click.option("--raw-cmd", is_flag=True, help="Run ARGUMENTS instead of the task's own command.")
@click.option("--relative-cwd", metavar="DIR", help="Run it in this directory of its tree, not in its own.")
@click.option("--env", metavar="K=V", multiple=True, help="Set a variable for it.")
@click.option("--hard-timeout", metavar="SECONDS", type=SECONDS, help="Its time limit; default: none.")
@click.option("--grace-period", metavar="SECONDS", type=SECONDS, help="From SIGTERM to SIGKILL then.")
@click.option("--json", "json_path", metavar="FILE", type=Path, help="Write here how it ended, and exit 0.")
@click.option("-v", "--verbose", count=True, help="Say what is being done.")
@click.option("-l", "--log-file", metavar="FILE", type=Path, help="Write that to a file as well.")
@click.option("--no-log", is_flag=True, help="Write no such file.")
@click.option("--auth-method", metavar="NAME", hidden=True, expose_value=False, help="No server asks for one.")
@click.option("--auth-disabled", is_flag=True, hidden=True, expose_value=False)
@click.option("--cipd-enabled", type=bool, default=False, hidden=True)
@click.option("--named-cache-root", hidden=True, expose_value=False)
@click.option("--named-cache", nargs=3, multiple=True, hidden=True)
@click.option("--indir", hidden=True)
@click.option("--output", multiple=True, hidden=True)
@click.argument("extra_args", metavar="[-- ARGUMENTS]", nargs=-1, type=click.UNPROCESSED)
def run_isolated(**said: Any) -> NoReturn:
    """Run one task on this machine, as a slave would, but as yourself and without its time limit.

    HASH is the part before the dot of a task's id. What follows -- is added to the task's command. The command's
    output comes at its end; exits with its exit code, 128 + N when signal N ended it.
    """
    _refuse(said)
    log_to_stderr(verbose=bool(said["verbose"]))
    if said["log_file"] and not said["no_log"]:
        _log_to_file(said["log_file"])
    with _reporting(said["json_path"]):
        raise SystemExit(_run(said))


def _run(said: Mapping[str, Any]) -> int:
    settings = load_client_settings()
    with open_cache(settings, said) as opened:
        if said["clean"]:
            return ExitStatus.SUCCESS
        with opened.cache.checkout(opened.isolated_hash) as cached:
            ran = run_task(cached, opened.isolated_hash, _task_options(said), opened.upload)
    if ran.leaked_dir is not None:
        # Scripts look for this line, the module's name in it included.
        logger.warning("Deliberately leaking %s for later examination", ran.leaked_dir)
    if said["json_path"]:
        _write_json(said["json_path"], _result_document(ran))
        return ExitStatus.SUCCESS
    if ran.outputs is not None:
        click.echo(f"[run_isolated_out_hack]{_compact(ran.outputs.to_json())}[/run_isolated_out_hack]")
    return ran.shell_status


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """What a task's files come from, and where its outputs go; the hash is "" when no task is wanted."""

    cache: BlobCache
    isolated_hash: str
    upload: Callable[[Path], Outputs | None]


@contextmanager
def open_cache(settings: ClientSettings, said: Mapping[str, Any]) -> Iterator[_Opened]:
    """The cache of blobs, in front of the isolate server. Raises ConfigurationError."""
    url = said["isolate_server"] or settings.isolate_server
    if url is None:
        raise ConfigurationError(
            "no isolate server is configured; set ISOLATE_SERVER to its address,"
            " or server in section [isolate] of the configuration file"
        )
    namespace = said["namespace"] or settings.namespace
    client = IsolateClient(url, namespace, settings.url_timeout_seconds)
    root = said["cache"] or settings.cache.directory
    isolated_hash, source = _task_source(said, client)
    try:
        cache = BlobCache(root, source, _limits(settings, said))
    except OSError as exc:
        raise ConfigurationError(f"cannot use {root} as a cache: {exc.strerror}; choose another --cache") from exc
    try:
        yield _Opened(
            cache=cache,
            isolated_hash=isolated_hash,
            upload=lambda outdir: upload_outputs(outdir, client, namespace),
        )
    finally:
        cache.close()
        client.close()


class _WithDocument:
    """The isolate server, and one document that need not be there."""

    def __init__(self, client: IsolateClient, document: bytes) -> None:
        self._client = client
        self._document = document
        self.digest = digest_bytes(document)

    def fetch(self, digest: str, destination: Path, *, size_bytes: int | None = None) -> int:
        if digest == self.digest:
            return destination.write_bytes(self._document)
        return self._client.fetch(digest, destination, size_bytes=size_bytes)


def _task_source(said: Mapping[str, Any], client: IsolateClient) -> tuple[str, BlobSource]:
    """The task's hash, and where its files come from. `-s` was a file's name in 2014, and a hash from 2015 on."""
    isolated = said["isolated"]
    if isolated is None or (is_digest(isolated) and not Path(isolated).exists()):
        return said["isolated_hash"] or isolated or "", client
    try:
        source = _WithDocument(client, Path(isolated).read_bytes())
    except OSError as exc:
        raise ConfigurationError(f"cannot read {isolated}: {exc.strerror}; give an .isolated file or a hash") from exc
    return source.digest, source


def _limits(settings: ClientSettings, said: Mapping[str, Any]) -> CacheLimits:
    configured = CacheLimits.of(settings.cache)

    def chosen(option: str, default: int) -> int:
        value = said[option]
        return default if value is None else int(value)

    return CacheLimits(
        max_bytes=chosen("max_cache_size", configured.max_bytes),
        min_free_bytes=chosen("min_free_space", configured.min_free_bytes),
        max_items=chosen("max_items", configured.max_items),
    )


def _task_options(said: Mapping[str, Any]) -> TaskOptions:
    return TaskOptions(
        extra_args=said["extra_args"],
        replaces_command=said["raw_cmd"],
        relative_cwd=said["relative_cwd"],
        env=dict(pair.split("=", 1) for pair in said["env"]),
        timeout=timedelta(seconds=said["hard_timeout"]) if said["hard_timeout"] else None,
        kill_grace=None if said["grace_period"] is None else timedelta(seconds=said["grace_period"]),
        root_dir=said["root_dir"],
        leak=said["leak_temp_dir"],
    )


def _refuse(said: Mapping[str, Any]) -> None:
    """Raise click's UsageError for what cannot be done."""
    for name, reason in _REFUSED.items():
        if said[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is not supported: {reason}")
    if said["cipd_enabled"]:
        raise click.UsageError("--cipd-enabled is not supported: give --cipd-enabled=False, or leave it out")
    if not said["clean"] and bool(said["isolated_hash"]) == bool(said["isolated"]):
        raise click.UsageError("Give either --hash HASH or --isolated FILE.")
    if said["isolated_hash"] and not is_digest(said["isolated_hash"]):
        raise click.BadParameter("give the 40 hex digits of a SHA-1, as in the task's id", param_hint="--hash")
    for pair in said["env"]:
        if not pair.partition("=")[1]:
            raise click.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--env")


@contextmanager
def _reporting(json_path: Path | None) -> Iterator[None]:
    """Leave word in the JSON file when we fail, and while nothing else is known."""
    if json_path is not None:
        _write_json(json_path, _failure_document("it was ended before it was done"))
    try:
        yield
    except DistTestError as exc:
        if json_path is not None:
            _write_json(json_path, _failure_document(str(exc)))
        raise


def _result_document(ran: Ran) -> dict[str, Any]:
    outputs = ran.outputs
    return {
        "duration": ran.duration.total_seconds(),
        "exit_code": ran.exit_status,
        "had_hard_timeout": ran.timed_out,
        "internal_failure": None,
        "outputs_ref": None
        if outputs is None
        else {"isolated": outputs.digest, "isolatedserver": outputs.server, "namespace": outputs.namespace},
        "version": _JSON_VERSION,
    }


def _failure_document(reason: str) -> dict[str, Any]:
    return {
        "duration": None,
        "exit_code": None,
        "had_hard_timeout": False,
        "internal_failure": reason,
        "outputs_ref": None,
        "version": _JSON_VERSION,
    }


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    try:
        path.write_text(_compact(document), encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}; choose another --json") from exc


def _compact(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def log_to_stderr(*, verbose: bool) -> None:
    """Show warnings, or everything, in the format of Swarming's run_isolated.py, which people know."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format=_LOG_FORMAT,
        stream=sys.stderr,
    )
    logging.getLogger("urllib3").setLevel(logging.INFO)  # its debug lines show signed links


def _log_to_file(path: Path) -> None:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}; choose another --log-file") from exc
    handler.setFormatter(logging.Formatter(_LOG_FORMAT))
    logging.getLogger().addHandler(handler)
