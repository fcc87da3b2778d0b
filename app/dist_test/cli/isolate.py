"""`dist-test isolate`: package a test's files for the cluster, and fetch such a package back."""

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dist_test.cli.isolate_flags import PAIRS, GoCommand
from dist_test.cli.messages import printable
from dist_test.errors import ConfigurationError, InvalidIsolate, IsolateError
from dist_test.isolate.isolate_file import (
    ArchiveOptions,
    parse_archive_arguments,
    parse_gen_file,
)
from dist_test.settings import ClientSettings, load_client_settings

if TYPE_CHECKING:
    from dist_test.isolate.archive import Archiver
    from dist_test.isolate.blob import LocalBlob
    from dist_test.isolate.client import IsolateClient, Progress


def _server_options(command: Callable[..., None]) -> Callable[..., None]:
    server = click.option(
        "-I", "--isolate-server", metavar="URL", help="Server; else $ISOLATE_SERVER or isolate.server."
    )
    namespace = click.option("--namespace", metavar="NAME", help="Namespace on the server; else isolate.namespace.")
    quiet = click.option("--quiet", is_flag=True, help="Print errors and results alone.")
    verbose = click.option(
        "--verbose", is_flag=True, help="Accepted for old scripts; has no effect.", expose_value=False
    )
    return server(namespace(quiet(verbose(command))))


@click.group()
def isolate() -> None:
    """Package a test's files and command for the cluster, or fetch such a package."""


@isolate.command(cls=GoCommand)
@click.option("-i", "--isolate", "isolate_path", metavar="FILE", type=Path, help="The .isolate that names the files.")
@click.option("-s", "--isolated", "isolated_path", metavar="FILE", type=Path, help="Write the .isolated here as well.")
@click.option("--path-variable", metavar="K=V", multiple=True, help="Value of <(K): a path.")
@click.option("--extra-variable", metavar="K=V", multiple=True, help="Value of <(K).")
@click.option("--config-variable", metavar="K=V", multiple=True, help="Value of <(K), and of K in conditions.")
@click.option("--blacklist", metavar="GLOB", multiple=True, help="Leave such names out of directories [.git .hg .svn].")
@click.option("--command", metavar="COMMAND", help="What to run, quoted as for a shell; with PATHs.")
@click.option("--root", metavar="DIR", type=Path, help="Root of the tree, with PATHs; else the current directory.")
@click.option("--dump-json", metavar="FILE", type=Path, help="Write {name: hash} here.")
@_server_options
@click.argument("paths", metavar="[PATH]...", nargs=-1)
def archive(paths: tuple[str, ...], **options: Any) -> None:
    """Upload one test and print its hash: either what an .isolate file names, or the PATHs and a --command.

    \b
    dist-test isolate archive -i test.isolate
    dist-test isolate archive --command 'sh run.sh --fast' run.sh data/
    """
    if bool(paths) == bool(options["isolate_path"]):
        raise click.UsageError("Give either --isolate FILE or PATHs.")
    with _batch(options) as batch:
        if paths:
            batch.add_paths(paths, options)
        else:
            batch.add_isolate(_archive_options(options))
        batch.finish(options["dump_json"])


@isolate.command(cls=GoCommand)
@click.option("--dump-json", metavar="FILE", type=Path, help="Write {name: hash} here once all is uploaded.")
@_server_options
@click.option("--blacklist", metavar="GLOB", multiple=True, help="Leave such names out, whatever GEN_JSON says.")
@click.argument("gen_files", metavar="GEN_JSON...", nargs=-1, required=True, type=Path)
def batcharchive(gen_files: tuple[Path, ...], blacklist: tuple[str, ...], **options: Any) -> None:
    """Upload many tests at once, each described by an .isolated.gen.json file, and print their hashes.

    Exits 1 when one of them fails; then the file of --dump-json is not written.
    """
    with _batch(options) as batch:
        for gen_file in gen_files:
            described = _read_gen_file(gen_file)
            batch.add_isolate(replace(described, blacklist=blacklist or described.blacklist))
        batch.finish(options["dump_json"])


@isolate.command(cls=GoCommand)
@click.option("-s", "-i", "--hash", "--isolated", "isolated_hash", metavar="HASH", help="Fetch this test's tree.")
@click.option("-t", "--target", metavar="DIR", type=Path, help="Into this directory, new or empty.")
@click.option("-f", "--file", "files", metavar="HASH DEST", nargs=2, multiple=True, help="Fetch one blob to a file.")
@_server_options
def download(
    isolated_hash: str | None, target: Path | None, files: tuple[tuple[str, str], ...], **options: Any
) -> None:
    """Fetch a test's tree, or single blobs. Files are private copies; what was fetched before comes from the cache."""
    if bool(isolated_hash) == bool(files) or (isolated_hash and target is None):
        raise click.UsageError("Give either --hash HASH with --target DIR, or --file HASH DEST.")
    settings = load_client_settings()
    with _client(settings, options) as client:
        for digest, destination in files:
            _download_file(client, digest, (target or Path()) / destination)
        if isolated_hash and target:
            _download_tree(client, settings, isolated_hash, target)


@dataclass(kw_only=True)
class _Batch:
    """The archives of one command: all are made first, then uploaded together, each blob once."""

    client: "IsolateClient"
    archiver: "Archiver"
    quiet: bool
    started: float = field(default_factory=time.monotonic)
    blobs: "dict[str, LocalBlob]" = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def add_isolate(self, options: ArchiveOptions) -> None:
        made = self.archiver.archive_isolate(options)
        self._add(options.name, made.digest, made.blobs)

    def add_paths(self, paths: Sequence[str], options: dict[str, Any]) -> None:
        root = Path(os.path.abspath(options["root"] or "."))  # noqa: PTH100 -- without resolving links
        made = self.archiver.archive(
            root,
            [_marked(path) for path in paths],
            command=_words(options["command"] or ""),
            **({"blacklist": options["blacklist"]} if options["blacklist"] else {}),
        )
        if options["isolated_path"]:
            _write_isolated(options["isolated_path"], made.isolated)
        self._add(options["isolated_path"].stem if options["isolated_path"] else paths[0], made.digest, made.blobs)

    def finish(self, dump_json: Path | None) -> None:
        """Upload what is missing, then print the hashes and write the file."""
        with _progress(self.quiet) as progress:
            uploaded = self.client.upload(self.blobs.values(), progress)
        for name, digest in self.digests.items():
            click.echo(f"{digest}  {printable(name)}")
        if not self.quiet:
            click.echo(f"Hits    : {uploaded.hits} ({_megabytes(uploaded.hit_bytes)})", err=True)
            click.echo(f"Misses  : {uploaded.misses} ({_megabytes(uploaded.missed_bytes)})", err=True)
            click.echo(f"Duration: {time.monotonic() - self.started:.1f}s", err=True)
        if dump_json is not None:
            _write_dump(dump_json, self.digests)

    def _add(self, name: str, digest: str, blobs: "Sequence[LocalBlob]") -> None:
        if self.digests.setdefault(name, digest) != digest:
            raise IsolateError(f"two tests of the batch are called {name!r}; give their .isolated files other names")
        self.blobs.update((blob.digest, blob) for blob in blobs)


@contextlib.contextmanager
def _batch(options: dict[str, Any]) -> Iterator[_Batch]:
    from dist_test.isolate.archive import Archiver
    from dist_test.isolate.stat_cache import StatCache, default_path

    with _client(load_client_settings(), options) as client:
        stat_cache = StatCache(default_path())
        try:
            yield _Batch(client=client, archiver=Archiver(stat_cache), quiet=options["quiet"])
        finally:
            stat_cache.close()


@contextlib.contextmanager
def _client(settings: ClientSettings, options: dict[str, Any]) -> "Iterator[IsolateClient]":
    from dist_test.isolate.client import IsolateClient

    url = options["isolate_server"] or settings.isolate_server
    if url is None:
        raise ConfigurationError(
            "no isolate server is set; give --isolate-server URL, or set $ISOLATE_SERVER, or `server` in section"
            f" [isolate] of {settings.path or '~/.dist_test.cnf'}"
        )
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"--isolate-server is {url}; give an address such as http://isolate.example.com:4242")
    with contextlib.closing(IsolateClient(url, options["namespace"] or settings.namespace)) as client:
        yield client


def _archive_options(options: dict[str, Any]) -> ArchiveOptions:
    pairs = [word for flag in sorted(PAIRS) for pair in options[flag.replace("-", "_")] for word in (f"--{flag}", pair)]
    isolate_path: Path = options["isolate_path"]
    isolated_path = options["isolated_path"]
    arguments = ["-i", str(isolate_path), "-s", str(isolated_path or isolate_path.with_suffix(".isolated")), *pairs]
    arguments += [word for pattern in options["blacklist"] for word in ("--blacklist", pattern)]
    return parse_archive_arguments(arguments, Path.cwd())


def _read_gen_file(path: Path) -> ArchiveOptions:
    try:
        options = parse_gen_file(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InvalidIsolate) as exc:
        raise InvalidIsolate(f"{path}: {exc}") from exc
    if not options.working_directory.is_dir():
        raise InvalidIsolate(f"{path}: dir is {options.working_directory}, which is not a directory")
    return options


def _marked(path: str) -> str:
    """The path made absolute, with a `/` at its end if it is a directory."""
    absolute = os.path.abspath(path)  # noqa: PTH100 -- without resolving links
    is_directory = os.path.isdir(absolute) and not os.path.islink(absolute)  # noqa: PTH112, PTH114
    return f"{absolute}/" if is_directory or path.endswith("/") else absolute


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as exc:
        raise click.UsageError(f"--command is {command!r}: {exc}.") from exc


def _write_isolated(path: Path, isolated: bytes) -> None:
    try:
        path.write_bytes(isolated)
    except OSError as exc:
        raise IsolateError(f"{path} cannot be written: {exc.strerror}") from exc


def _write_dump(path: Path, digests: dict[str, str]) -> None:
    text = json.dumps(digests, indent=2, sort_keys=True) + "\n"
    # Aside and renamed: a script that waits for the file must not read half of it. But root must not replace /dev/null.
    partial = path.parent / f"{path.name}.{os.getpid()}"
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        partial.write_text(text, encoding="utf-8")
        partial.rename(path)
    except OSError as exc:
        raise IsolateError(f"{path} cannot be written: {exc.strerror}") from exc


def _download_file(client: "IsolateClient", digest: str, destination: Path) -> None:
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        client.fetch(digest, destination, limit_bytes=None)
    except OSError as exc:
        raise IsolateError(f"{destination} cannot be written: {exc.strerror}") from exc


def _download_tree(client: "IsolateClient", settings: ClientSettings, isolated_hash: str, target: Path) -> None:
    from dist_test.isolate.cache import BlobCache, CacheLimits
    from dist_test.running.cached import entries_of
    from dist_test.running.tree import write_tree

    if target.exists() and not target.is_dir():
        raise IsolateError(f"{target} is not a directory; give another --target")
    if target.exists() and any(target.iterdir()):
        raise IsolateError(f"{target} is not empty; give another --target, or remove it first")
    limits = CacheLimits.of(settings.cache)
    try:
        with (
            contextlib.closing(BlobCache(settings.cache.directory, client, limits)) as cache,
            cache.checkout(isolated_hash) as cached,
        ):
            target.mkdir(parents=True, exist_ok=True)
            write_tree(entries_of(cached), target)
    except OSError as exc:
        raise IsolateError(f"{exc.filename or target} cannot be written: {exc.strerror}") from exc
    if cached.tree.command:
        click.echo(f"To run this test please run from the directory {target / cached.tree.relative_cwd}:")
        click.echo(f"  {shlex.join(cached.tree.command)}")


@contextlib.contextmanager
def _progress(quiet: bool) -> "Iterator[Progress | None]":
    """A bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("uploading"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[blobs]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", blobs="")

        def report(done_bytes: int, total_bytes: int, done_blobs: int, total_blobs: int) -> None:
            bar.update(task, completed=done_bytes, total=total_bytes, blobs=f"{done_blobs}/{total_blobs} files")

        yield report


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"
