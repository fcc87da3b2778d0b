"""`bin/client`: the client of Cloudera's dist_test, as the scripts that were written for it call and read it.

Options, exit codes and lines are its own; what it does is what `dist-test submit`, `watch`, `cancel` and `fetch` do.
"""

import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click

from dist_test.cli.cancel import cancel_job
from dist_test.cli.clock import Clock, RealClock
from dist_test.cli.downloads import Downloader
from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.fetch import DEFAULT_DIRECTORY, Wanted
from dist_test.cli.job_file import Submission, generate_job_id, make_job, read_job_file, to_document
from dist_test.cli.master_client import WATCH_PATIENCE, MasterClient
from dist_test.cli.records import Job
from dist_test.cli.remembered_job import job_or_last, remember
from dist_test.cli.submit import user_name
from dist_test.cli.watch import exit_status_of, poll_seconds
from dist_test.errors import DistTestError
from dist_test.settings import ClientSettings, load_client_settings

_RED, _YELLOW, _GREEN, _RESET = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[m"
_LINE_BEFORE = "\x1b[F\x1b[2K"  # up one line, and empty it
_ATTEMPTS_PER_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What every command needs."""

    settings: ClientSettings
    clock: Clock
    client: MasterClient


class _Original(click.Group):
    """Exits 1 where the original printed its usage: without a command, or with one that it did not know."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None:
            _exit_with_usage(ctx)
        return super().resolve_command(ctx, args)


@click.group("client", cls=_Original, invoke_without_command=True)
@click.pass_context
def client(context: click.Context) -> None:
    """Submit jobs to a dist_test master, as Cloudera's client does."""
    if context.invoked_subcommand is None:
        _exit_with_usage(context)


_directory = click.option(
    "-d",
    "--output-dir",
    metavar="PATH",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIRECTORY,
    help="Directory for what is downloaded.",
)
_logs = click.option("-l", "--logs", is_flag=True, help="Download logs.")
_artifacts = click.option("-a", "--artifacts", is_flag=True, help="Download artifacts.")
_words = click.argument("words", metavar="[JOB]", nargs=-1)


@client.command()
@click.option("-n", "--name", default="", help="Prefix of the job's id.")
@_directory
@_logs
@_artifacts
@click.option("--no-wait", is_flag=True, help="Exit once the job is submitted.")
@click.argument("paths", metavar="JOB_JSON", nargs=-1)
def submit(
    paths: tuple[str, ...], name: str, output_dir: Path, *, logs: bool, artifacts: bool, no_wait: bool
) -> NoReturn:
    """Submit a JSON file listing tasks."""
    if len(paths) != 1:
        _exit_with_usage(click.get_current_context())
    session = _open()
    job_id = _submit(session, paths[0], name)
    if no_wait:
        sys.exit(ExitStatus.SUCCESS)
    status = _watch(session, job_id)
    if logs or artifacts:
        fetched = _fetch(session, job_id, Wanted(logs=logs, artifacts=artifacts), output_dir)
        status = status or fetched
    click.echo(f"job_id={job_id}")  # grind reads it
    sys.exit(status)


@client.command()
@_words
def watch(words: tuple[str, ...]) -> NoReturn:
    """Watch an already submitted job."""
    session = _open()
    job_id = _job_of(session, words)
    log(f"Watch your results at {session.client.job(job_id).url}")
    sys.exit(_watch(session, job_id))


@client.command()
@_words
def cancel(words: tuple[str, ...]) -> None:
    """Cancel a job."""
    session = _open()
    cancel_job(session.client, _job_of(session, words), None)
    log(f"Cancellation: {json.dumps({'status': 'SUCCESS'})}")


@client.command()
@_directory
@_logs
@_artifacts
@click.option("-f", "--failed-only", is_flag=True, help="Download those of failed tasks only.")
@_words
def fetch(words: tuple[str, ...], output_dir: Path, *, logs: bool, artifacts: bool, failed_only: bool) -> NoReturn:
    """Fetch the logs and artifacts of a job."""
    if len(words) > 1:
        raise click.UsageError("no job id specified")
    if not logs and not artifacts:
        raise click.UsageError("Need to specify either --logs or --artifacts")
    session = _open()
    job_id = job_or_last(words[0] if words else None, session.settings.job_path)
    session.client.job(job_id)  # an unknown job has no directory made for it
    sys.exit(_fetch(session, job_id, Wanted(logs=logs, artifacts=artifacts, failed_only=failed_only), output_dir))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command, by default the one on the program's command line, and exit."""
    try:
        client.main(arguments, prog_name="client")
    except DistTestError as exc:
        log(str(exc), level="ERROR")
    sys.exit(ExitStatus.ERROR)


def log(message: str, *, level: str = "INFO") -> None:
    """Print to stderr as the original logged; scripts read some of these lines."""
    for line in message.splitlines():
        click.echo(f"{level}:dist_test.client:{line}", err=True)


def progress_line(job: Job, seconds: float, *, colored: bool) -> str:
    """` 12.3s\\t 40/120 tests complete (2 failed) (1 retries)`, which scripts read."""

    def painted(text: str, color: str) -> str:
        return f"{color}{text}{_RESET}" if colored and text else text

    counters = job.counters
    line = f" {seconds:.1f}s\t {counters.finished_tasks}/{counters.total_tasks} tests complete"
    line = painted(line, _RED if exit_status_of(job) else _GREEN) if job.is_finished else line
    failed = f" ({counters.failed_tasks} failed)" if counters.failed_tasks else ""
    retries = f" ({counters.retried_attempts} retries)" if counters.retried_attempts else ""
    return line + painted(failed, _RED) + painted(retries, _YELLOW)


def _open() -> _Session:
    settings = load_client_settings()
    clock = RealClock()
    return _Session(
        settings=settings, clock=clock, client=MasterClient.from_settings(settings, clock=clock, report=log)
    )


def _job_of(session: _Session, words: tuple[str, ...]) -> str:
    if len(words) > 1:
        _exit_with_usage(click.get_current_context())
    if words:
        return words[0]
    job_id = job_or_last(None, session.settings.job_path)
    log(f"Using most recently submitted job id: {job_id}")
    return job_id


def _submit(session: _Session, path: str, name: str) -> str:
    job = make_job(read_job_file(path), Submission(name=name or None), user=user_name(), make_id=_make_id, warn=log)
    log(f"Submitting job to {session.client.url}")
    remember(session.settings.job_path, job.job_id)
    accepted = session.client.submit(to_document(job))
    log(f"Submitted job {accepted.job_id}")
    log(f"Watch your results at {accepted.url}")
    return accepted.job_id


def _make_id(name: str) -> str:
    now = int(time.time())
    return generate_job_id(name, user=user_name(), unix_time=now, pid=os.getpid(), random=secrets.token_hex(2))


def _watch(session: _Session, job_id: str) -> int:
    """Show the job's progress until its end; 88 when it failed, 1 after Ctrl-C, which leaves the job alone."""
    session.client.patience = WATCH_PATIENCE
    try:
        return exit_status_of(_watch_to_the_end(session, job_id))
    except KeyboardInterrupt:
        log(f"No longer watching job {job_id}; it goes on")
        sys.exit(ExitStatus.ERROR)


def _watch_to_the_end(session: _Session, job_id: str) -> Job:
    started = session.clock.now()
    on_terminal = sys.stdout.isatty()
    shown: Any = None
    while True:
        job = session.client.job(job_id)
        seconds = session.clock.now() - started
        if on_terminal or shown != (job.counters.finished_tasks, job.counters.retried_attempts):
            before = _LINE_BEFORE if on_terminal and shown is not None else ""
            print(f"{before}{progress_line(job, seconds, colored=on_terminal)}", flush=True)
        shown = (job.counters.finished_tasks, job.counters.retried_attempts)
        if job.is_finished:
            return job
        session.clock.sleep(poll_seconds(seconds))


def _fetch(session: _Session, job_id: str, wanted: Wanted, directory: Path) -> int:
    timeout = session.settings.url_timeout_seconds
    with Downloader(directory, clock=session.clock, timeout_seconds=timeout) as downloader:
        for page in session.client.attempt_pages(job_id, state=wanted.state, limit=_ATTEMPTS_PER_PAGE):
            found = [item for attempt in page for item in wanted.downloads(attempt, directory)]
            downloader.fetch(found, lambda: None)
    for problem in downloader.fetched.problems:
        log(problem, level="ERROR")
    log(f"Fetched {downloader.fetched.new} files into {directory}")
    return ExitStatus.ERROR if downloader.fetched.problems else ExitStatus.SUCCESS


def _exit_with_usage(context: click.Context) -> NoReturn:
    click.echo(context.get_help(), err=True)
    sys.exit(ExitStatus.ERROR)


if __name__ == "__main__":
    main()
