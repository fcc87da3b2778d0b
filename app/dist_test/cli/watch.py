"""`dist-test watch`: follow a job to its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click
from rich.console import Console

from dist_test.cli.clock import Clock, RealClock
from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.failures import Failures
from dist_test.cli.master_client import WATCH_PATIENCE, MasterClient
from dist_test.cli.messages import say
from dist_test.cli.progress import progress_on, standard_console
from dist_test.cli.records import Job
from dist_test.cli.remembered_job import job_or_last
from dist_test.settings import load_client_settings

_SHORTEST_POLL_SECONDS = 0.5
_LONGEST_POLL_SECONDS = 5.0  # the original's only one


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
def watch(job_id: str | None) -> NoReturn:
    """Show a job's progress until its end; without JOB, that of the last one submitted.

    Exits 0 when every task succeeded, flaky ones included, and 88 when one failed or the job was canceled.
    """
    settings = load_client_settings()
    job_id = job_or_last(job_id, settings.job_path)
    clock = RealClock()
    client = MasterClient.from_settings(settings, clock=clock, report=say)
    with interrupts_leave_the_job(job_id):
        job = watch_job(client, job_id, standard_console(), clock)
    raise SystemExit(exit_status_of(job))


def watch_job(client: MasterClient, job_id: str, console: Console, clock: Clock) -> Job:
    """Show the job's progress until it is finished; give it back then. Bears ten minutes without the master."""
    client.patience = WATCH_PATIENCE
    started = clock.now()
    with progress_on(console, clock, Failures(client, job_id)) as progress:
        while True:
            job = client.job(job_id)
            progress.update(job)
            if job.is_finished:
                progress.finish(job)
                return job
            clock.sleep(poll_seconds(clock.now() - started))


def poll_seconds(watched_seconds: float) -> float:
    """How long to wait before asking again: a short job is seen ending at once, a long one costs the master little."""
    return min(_LONGEST_POLL_SECONDS, _SHORTEST_POLL_SECONDS + watched_seconds / 20)


def exit_status_of(job: Job) -> ExitStatus:
    """What a finished job means for the program that waited for it."""
    return ExitStatus.SUCCESS if job.result == "succeeded" else ExitStatus.JOB_FAILED


@contextmanager
def interrupts_leave_the_job(job_id: str) -> Iterator[None]:
    """On Ctrl-C, say that the job goes on without us and exit 1."""
    try:
        yield
    except KeyboardInterrupt:
        say(
            f"no longer watching; the job goes on. `dist-test watch {job_id}` watches it again,"
            f" `dist-test cancel {job_id}` ends it"
        )
        raise SystemExit(ExitStatus.ERROR) from None
