"""`dist-test run-isolated`: run one task on this machine, as a slave would."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

import click

from dist_test.errors import ConfigurationError, DistTestError
from dist_test.isolate.cache import BlobCache, CachedTree, CacheLimits
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.digest import is_digest
from dist_test.running.cached import entries_of
from dist_test.running.records import OutputFile, RunRequest, RunResult
from dist_test.running.runner import Runner
from dist_test.settings import ClientSettings, load_client_settings

logger = logging.getLogger(__name__)


@click.command("run-isolated")
@click.option("-H", "--hash", "isolated_hash", metavar="HASH", required=True, help="The task's isolate hash.")
@click.option("-I", "--isolate-server", metavar="URL", help="Default: ISOLATE_SERVER, or the configuration's.")
@click.option("--leak-temp-dir", is_flag=True, help="Keep the directory in which it ran, to look at.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), help="Directory for downloaded files.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")
@click.argument("extra_args", metavar="[-- ARGUMENTS]", nargs=-1, type=click.UNPROCESSED)
def run_isolated(
    isolated_hash: str,
    isolate_server: str | None,
    cache: Path | None,
    extra_args: tuple[str, ...],
    *,
    leak_temp_dir: bool,
    verbose: bool,
) -> NoReturn:
    """Run one task on this machine, as a slave would, but as yourself and without a time limit.

    HASH is the part before the dot of a task's id. What follows -- is added to the task's command. The command's
    output comes at its end; exits with its exit code, 128 + N when signal N ended it.
    """
    log_to_stderr(verbose=verbose)
    if not is_digest(isolated_hash):
        raise click.BadParameter("give the 40 hex digits of a SHA-1, as in the task's id", param_hint="--hash")
    settings = load_client_settings()
    with open_cache(settings, isolate_server, cache) as blobs, blobs.checkout(isolated_hash) as cached:
        request = request_of(cached, isolated_hash, extra_args, leak=leak_temp_dir)
        raise SystemExit(run_here(request))


@contextmanager
def open_cache(settings: ClientSettings, server: str | None, directory: Path | None) -> Iterator[BlobCache]:
    """The cache of blobs, in front of the isolate server. Raises ConfigurationError."""
    url = server or settings.isolate_server
    if url is None:
        raise ConfigurationError(
            "no isolate server is configured; set ISOLATE_SERVER to its address,"
            " or server in section [isolate] of the configuration file"
        )
    client = IsolateClient(url, settings.namespace, settings.url_timeout_seconds)
    root = directory or settings.cache.directory
    try:
        cache = BlobCache(root, client, CacheLimits.of(settings.cache))
    except OSError as exc:
        raise ConfigurationError(f"cannot use {root} as a cache: {exc.strerror}; choose another --cache") from exc
    try:
        yield cache
    finally:
        client.close()


def request_of(cached: CachedTree, isolated_hash: str, extra_args: tuple[str, ...], *, leak: bool) -> RunRequest:
    """The task as a slave would be asked to run it. Raises DistTestError when the package has no command."""
    command = (*cached.tree.command, *extra_args)
    if not command:
        raise DistTestError(f"the package {isolated_hash} has no command; give one after --")
    return RunRequest(
        entries=entries_of(cached),
        isolated=cached.isolated,
        command=command,
        relative_cwd=cached.tree.relative_cwd,
        job_id="run-isolated",
        task_id=f"{isolated_hash}.0",
        leak=leak,
    )


def run_here(request: RunRequest) -> int:
    """Run the task, pass its output on, and give its exit code as a shell would. Raises RunError."""
    work_dir = Path(tempfile.mkdtemp(prefix="dist-test-run-"))
    result = None
    try:
        with Runner(work_dir=work_dir, user=None) as runner:
            result = runner.run(request)
            _pass_on(result)
    finally:
        _clean(work_dir, result)
    if result.leaked_dir is not None:
        logger.warning("Deliberately leaking %s for later examination", result.leaked_dir)
    return exit_code_of(result)


def exit_code_of(result: RunResult) -> int:
    """The command's exit code; 128 + N for signal N, as shells have it."""
    if result.exit_status is None:
        return 1
    return 128 - result.exit_status if result.exit_status < 0 else result.exit_status


def log_to_stderr(*, verbose: bool) -> None:
    """Show warnings, or everything, in the format of Swarming's run_isolated.py, which people know."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(levelname)-8s %(process)5d  %(module)s(%(lineno)d): %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("urllib3").setLevel(logging.INFO)  # its debug lines show signed links


def _pass_on(result: RunResult) -> None:
    _copy(result.stdout, sys.stdout.buffer)
    _copy(result.stderr, sys.stderr.buffer)
    for note in result.notes:
        logger.warning("%s", note)


def _copy(output: OutputFile, stream: BinaryIO) -> None:
    with output.open() as content:
        shutil.copyfileobj(content, stream)
    stream.flush()


def _clean(work_dir: Path, result: RunResult | None) -> None:
    """Remove everything but a leaked directory."""
    leaked = result.leaked_dir if result else None
    for entry in work_dir.iterdir():
        if leaked is None or not leaked.is_relative_to(entry):
            shutil.rmtree(entry, ignore_errors=True)
    if leaked is None:
        shutil.rmtree(work_dir, ignore_errors=True)
