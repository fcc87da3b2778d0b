"""`dist-test rerun`: run again what failed in a job."""

import click

from dist_test.cli.clock import RealClock
from dist_test.cli.master_client import MasterClient
from dist_test.cli.messages import say
from dist_test.cli.remembered_job import job_or_last, remember
from dist_test.settings import load_client_settings


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
def rerun(job_id: str | None) -> None:
    """Submit the tasks that failed in a job that has ended; without JOB, in the last one submitted.

    The new job has its options, and is the last one then: `dist-test watch` shows it. Asked again, nothing new is made.
    """
    settings = load_client_settings()
    job_id = job_or_last(job_id, settings.job_path)
    job = MasterClient.from_settings(settings, clock=RealClock(), report=say).rerun(job_id)
    remember(settings.job_path, job.job_id)
    say(f"job {job.job_id} runs again what failed in {job_id}")
