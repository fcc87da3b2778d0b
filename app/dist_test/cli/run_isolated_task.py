"""Running one task on this machine: its private tree, its output, and what it leaves in ${ISOLATED_OUTDIR}."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from dist_test.errors import DistTestError
from dist_test.isolate.archive import Archiver
from dist_test.isolate.cache import CachedTree
from dist_test.isolate.client import IsolateClient
from dist_test.isolate.format import check_path
from dist_test.isolate.stat_cache import StatCache
from dist_test.running.cached import entries_of
from dist_test.running.records import OutputFile, RunRequest, RunResult
from dist_test.running.runner import DEFAULT_KILL_GRACE, Runner
from dist_test.running.tree import remove_tree

logger = logging.getLogger(__name__)

_OUTDIR = "${ISOLATED_OUTDIR}"
_READ_ONLY_KINDS = {1: "-type f", 2: "-type f -o -type d"}
# The cache's copies stay writable for slaves' tasks; here a shell takes the write bits away before it is the command.
_READ_ONLY_SCRIPT = '/usr/bin/find "$1" \\( {kinds} \\) -exec /bin/chmod a-w {{}} + && shift && exec "$@"'


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What the command line says about how a task runs; None for what the task or the default says."""

    extra_args: tuple[str, ...] = ()
    replaces_command: bool = False
    relative_cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta | None = None
    kill_grace: timedelta | None = None
    root_dir: Path | None = None
    leak: bool = False


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The package that the outputs were uploaded as."""

    digest: str
    namespace: str
    server: str

    def to_json(self) -> dict[str, str]:
        return {"hash": self.digest, "namespace": self.namespace, "storage": self.server}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended: its exit code, -N for signal N, None when the launcher died with it."""

    exit_status: int | None
    timed_out: bool
    duration: timedelta
    outputs: Outputs | None
    leaked_dir: Path | None

    @property
    def shell_status(self) -> int:
        """The exit code for our own program; 128 + N for signal N, as shells have it."""
        if self.exit_status is None:
            return 1
        return 128 - self.exit_status if self.exit_status < 0 else self.exit_status


def run_task(
    cached: CachedTree, isolated_hash: str, options: TaskOptions, upload: Callable[[Path], Outputs | None]
) -> Ran:
    """Run the task, pass its output on, upload what it left. Raises RunError, IsolateError, DistTestError."""
    command = _command_of(cached, isolated_hash, options)
    with ExitStack() as stack:
        outdir = None
        if any(_OUTDIR in word for word in command):
            outdir = stack.enter_context(_temporary_directory("isolated_out", options.root_dir))
            command = tuple(word.replace(_OUTDIR, str(outdir)) for word in command)
        result = _run_here(_request_of(cached, isolated_hash, command, options), options)
        return Ran(
            exit_status=result.exit_status,
            timed_out=result.outcome == "timed_out",
            duration=result.duration,
            outputs=None if outdir is None else upload(outdir),
            leaked_dir=result.leaked_dir,
        )


def _command_of(cached: CachedTree, isolated_hash: str, options: TaskOptions) -> tuple[str, ...]:
    command = options.extra_args if options.replaces_command else (*cached.tree.command, *options.extra_args)
    if not command:
        raise DistTestError(f"No command to run: the package {isolated_hash} has none; give one after --")
    return command


def _request_of(cached: CachedTree, isolated_hash: str, command: tuple[str, ...], options: TaskOptions) -> RunRequest:
    """The task as a slave would be asked to run it."""
    relative_cwd = cached.tree.relative_cwd
    if options.relative_cwd is not None:
        relative_cwd = "" if options.relative_cwd in ("", ".") else check_path(options.relative_cwd, "--relative-cwd")
    return RunRequest(
        entries=entries_of(cached),
        isolated=cached.isolated,
        command=_read_only(cached, command, relative_cwd) if cached.tree.read_only else command,
        relative_cwd=relative_cwd,
        env=options.env,
        timeout=options.timeout,
        job_id="run-isolated",
        task_id=f"{isolated_hash}.0",
        leak=options.leak,
    )


def _read_only(cached: CachedTree, command: tuple[str, ...], relative_cwd: str) -> tuple[str, ...]:
    """The command, run in a tree that cannot be written to."""
    script = _READ_ONLY_SCRIPT.format(kinds=_READ_ONLY_KINDS[cached.tree.read_only])
    in_tree = f"{relative_cwd}/{command[0]}".lstrip("/")
    # As without the shell: a file of the tree wins over one of the same name on PATH.
    first = f"./{command[0]}" if any(file.path == in_tree for file in cached.tree.files) else command[0]
    root = "/".join([".", *(".." for part in relative_cwd.split("/") if part)])
    return ("/bin/sh", "-c", script, "sh", root, first, *command[1:])


def _run_here(request: RunRequest, options: TaskOptions) -> RunResult:
    grace = DEFAULT_KILL_GRACE if options.kill_grace is None else options.kill_grace
    with _temporary_directory("run_tha_test", options.root_dir, leak=options.leak) as work_dir:
        with Runner(work_dir=work_dir, user=None, kill_grace=grace) as runner:
            result = runner.run(request)
            _pass_on(result)
        if result.leaked_dir is not None:
            _remove_all_but(result.leaked_dir, work_dir)
    return result


@contextmanager
def _temporary_directory(prefix: str, parent: Path | None, *, leak: bool = False) -> Iterator[Path]:
    """A directory, removed afterwards unless it is to be leaked and nothing went wrong."""
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    except OSError as exc:
        raise DistTestError(f"cannot make a directory in {parent or tempfile.gettempdir()}: {exc.strerror}") from exc
    is_kept = False
    try:
        yield path
        is_kept = leak
    finally:
        if not is_kept:
            _remove(path)


def _remove(path: Path) -> None:
    try:
        remove_tree(str(path))
    except OSError as exc:
        raise DistTestError(f"{path} cannot be removed: {exc.strerror}") from exc


def _remove_all_but(leaked: Path, work_dir: Path) -> None:
    for entry in work_dir.iterdir():
        if not leaked.is_relative_to(entry):
            _remove(entry)


def upload_outputs(outdir: Path, client: IsolateClient, namespace: str) -> Outputs | None:
    """Archive what there is; None for nothing. One document, as old clients that read only its `files` expect."""
    files = [str(path) for path in sorted(outdir.rglob("*")) if path.is_symlink() or not path.is_dir()]
    if not files:
        return None
    archived = Archiver(StatCache(None)).archive(outdir, files)
    client.upload(archived.blobs)
    return Outputs(digest=archived.digest, namespace=namespace, server=client.url)


def _pass_on(result: RunResult) -> None:
    _copy(result.stdout, sys.stdout.buffer)
    _copy(result.stderr, sys.stderr.buffer)
    for note in result.notes:
        logger.warning("%s", note)


def _copy(output: OutputFile, stream: BinaryIO) -> None:
    with output.open() as content:
        shutil.copyfileobj(content, stream)
    stream.flush()
