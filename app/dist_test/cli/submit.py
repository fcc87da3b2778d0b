"""`dist-test submit`: hand a job to the master, and wait for it."""

import getpass
import os
import secrets
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from dist_test.cli.clock import Clock, RealClock
from dist_test.cli.downloads import Downloader
from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.fetch import DEFAULT_DIRECTORY, Wanted, fetch_results
from dist_test.cli.job_file import Submission, generate_job_id, make_job, read_job_file, to_document
from dist_test.cli.master_client import MasterClient
from dist_test.cli.messages import say
from dist_test.cli.progress import standard_console
from dist_test.cli.remembered_job import remember
from dist_test.cli.watch import exit_status_of, interrupts_leave_the_job, watch_job
from dist_test.errors import DistTestError, MasterUnavailable
from dist_test.model.job import MAX_TASKS, Job
from dist_test.settings import ClientSettings, load_client_settings


@click.command()
@click.argument("job_json", metavar="JOB.json")
@click.option("-n", "--name", help="Name of the job; its id begins with it.")
@click.option("--project", help="Tests of one project share their expected durations; default: the name.")
@click.option("--owner", help="Whose share of the cluster the job counts against; default: your user name.")
@click.option("--max-failed-tasks", type=click.IntRange(0, MAX_TASKS), help="More failed tasks cancel the job.")
@click.option(
    "-d",
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Directory for what --logs and --artifacts fetch.",
)
@click.option("-l", "--logs", is_flag=True, help="Fetch the output of failed attempts at the end.")
@click.option("-a", "--artifacts", is_flag=True, help="Fetch the artifacts at the end.")
@click.option("--no-wait", is_flag=True, help="Submit and be done.")
def submit(job_json: str, output_dir: Path, *, logs: bool, artifacts: bool, no_wait: bool, **said: Any) -> NoReturn:
    """Submit a job and wait for its end. JOB.json holds {"tasks": [...]}; - reads it from standard input.

    Exits 0 when every task succeeded, flaky ones included, and 88 when one failed or the job was canceled.
    """
    settings = load_client_settings()
    clock = RealClock()
    client = MasterClient.from_settings(settings, clock=clock, report=say)
    job = make_job(read_job_file(job_json), Submission(**said), user=user_name(), make_id=_make_id, warn=say)
    submit_job(client, job, settings.job_path)
    if no_wait:
        raise SystemExit(ExitStatus.SUCCESS)
    wanted = Wanted(logs=logs, artifacts=artifacts) if logs or artifacts else None
    raise SystemExit(_wait(client, job.job_id, wanted, output_dir, settings, clock))


def submit_job(client: MasterClient, job: Job, job_path: Path) -> None:
    """Submit the job, remembering its id first: after a crash on our side, it may run all the same."""
    remember(job_path, job.job_id)
    unknown = f"whether the master has taken job {job.job_id} is not known; `dist-test status` will tell later"
    try:
        accepted = client.submit(to_document(job))
    except MasterUnavailable as exc:
        raise MasterUnavailable(f"{exc}\n{unknown}") from exc
    except KeyboardInterrupt:
        say(unknown)
        raise
    say(f"Submitted job {accepted.job_id}")
    say(f"Watch your results at {accepted.url}")


def _wait(
    client: MasterClient, job_id: str, wanted: Wanted | None, directory: Path, settings: ClientSettings, clock: Clock
) -> ExitStatus:
    console = standard_console()
    with interrupts_leave_the_job(job_id):
        job = watch_job(client, job_id, console, clock)
    status = exit_status_of(job)
    if wanted is None:
        return status
    downloader = Downloader(directory, clock=clock, timeout_seconds=settings.url_timeout_seconds)
    try:
        is_complete = not fetch_results(client, job_id, wanted, downloader, console).problems
    except DistTestError as exc:
        say(str(exc))
        is_complete = False
    # That the job failed is the bigger news.
    return status if is_complete or status else ExitStatus.ERROR


def user_name() -> str:
    """The name of whoever runs this; the number where there is no name, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _make_id(name: str) -> str:
    return generate_job_id(
        name, user=user_name(), unix_time=int(time.time()), pid=os.getpid(), random=secrets.token_hex(2)
    )
