"""`dist-test fetch`: download a job's logs and artifacts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from dist_test.cli.clock import RealClock
from dist_test.cli.downloads import Download, Downloader, Fetched, downloads_of
from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.master_client import MasterClient
from dist_test.cli.messages import say
from dist_test.cli.progress import standard_console
from dist_test.cli.records import Attempt
from dist_test.cli.remembered_job import job_or_last
from dist_test.settings import load_client_settings

DEFAULT_DIRECTORY = Path("dist-test-results")
_SHOWN_PROBLEMS = 10
_ATTEMPTS_PER_PAGE = 500  # with slow links, a page must be done within the day that its links are good for


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to download."""

    logs: bool
    artifacts: bool
    failed_only: bool = False

    @property
    def state(self) -> str:
        """The attempts to ask for. Only failed ones have logs."""
        return "finished" if self.artifacts and not self.failed_only else "failed"

    def downloads(self, attempt: Attempt, directory: Path) -> Iterator[Download]:
        """The files to fetch of one attempt."""
        return downloads_of(attempt, directory, logs=self.logs, artifacts=self.artifacts)


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option(
    "-d",
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Directory for the files; made if need be.",
)
@click.option("-l", "--logs", is_flag=True, help="Output of failed attempts.")
@click.option("-a", "--artifacts", is_flag=True, help="Artifacts: the zips, and each one unpacked.")
@click.option("-f", "--failed-only", is_flag=True, help="Artifacts of failed attempts only.")
def fetch(job_id: str | None, output_dir: Path, *, logs: bool, artifacts: bool, failed_only: bool) -> NoReturn:
    """Download a job's logs and artifacts; without JOB, those of the last one submitted.

    Files are named TASK.ATTEMPT.DESCRIPTION.stdout, .stderr and .zip. What is there already is left alone, so an
    interrupted fetch is continued by another.
    """
    if not (logs or artifacts):
        raise click.UsageError("nothing to fetch; give --logs, --artifacts or both")
    settings = load_client_settings()
    job_id = job_or_last(job_id, settings.job_path)
    clock = RealClock()
    client = MasterClient.from_settings(settings, clock=clock, report=say)
    wanted = Wanted(logs=logs, artifacts=artifacts, failed_only=failed_only)
    downloader = Downloader(output_dir, clock=clock, timeout_seconds=settings.url_timeout_seconds)
    client.job(job_id)  # an unknown job has no directory made for it
    fetched = fetch_results(client, job_id, wanted, downloader, standard_console())
    raise SystemExit(ExitStatus.ERROR if fetched.problems else ExitStatus.SUCCESS)


def fetch_results(
    client: MasterClient, job_id: str, wanted: Wanted, downloader: Downloader, console: Console
) -> Fetched:
    """Download what is wanted of the job, and say what came of it. Raises ConfigurationError, MasterUnavailable."""
    lost = total = 0
    with downloader, _bar(console) as bar:
        task = bar.add_task("", total=None)
        for page in client.attempt_pages(job_id, state=wanted.state, limit=_ATTEMPTS_PER_PAGE):
            downloads = [item for attempt in page for item in wanted.downloads(attempt, downloader.directory)]
            lost += sum(attempt.logs_lost for attempt in page)
            total += len(downloads)
            bar.update(task, total=total)
            downloader.fetch(downloads, lambda: bar.advance(task))
    _summarize(downloader, lost if wanted.logs else 0)
    return downloader.fetched


def _bar(console: Console) -> Bar:
    columns = (TextColumn("Fetching"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bar(*columns, console=console, transient=True, disable=not console.is_terminal)


def _summarize(downloader: Downloader, lost: int) -> None:
    fetched = downloader.fetched
    for problem in fetched.problems[:_SHOWN_PROBLEMS]:
        say(problem)
    if len(fetched.problems) > _SHOWN_PROBLEMS:
        say(f"... and {len(fetched.problems) - _SHOWN_PROBLEMS} more files that could not be fetched")
    if lost:
        say(f"the logs of {lost} attempts were lost before they could be stored")
    present = f", {fetched.present} were there already" if fetched.present else ""
    say(f"fetched {fetched.new} files into {downloader.directory}{present}")
