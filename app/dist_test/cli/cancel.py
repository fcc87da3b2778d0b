"""`dist-test cancel`: stop a job."""

import click

from dist_test.cli.clock import RealClock
from dist_test.cli.master_client import MasterClient
from dist_test.cli.messages import say
from dist_test.cli.remembered_job import job_or_last
from dist_test.errors import JobNotRunning
from dist_test.settings import load_client_settings


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("--reason", help="Why, for those who look at the job later.")
def cancel(job_id: str | None, reason: str | None) -> None:
    """Cancel a job and stop its running tasks; without JOB, the last one submitted. There is no way back."""
    settings = load_client_settings()
    job_id = job_or_last(job_id, settings.job_path)
    cancel_job(MasterClient.from_settings(settings, clock=RealClock(), report=say), job_id, reason)
    say(f"canceled job {job_id}")


def cancel_job(client: MasterClient, job_id: str, reason: str | None) -> None:
    """Cancel the job; a success too when it is canceled already. Raises JobNotRunning when it ended otherwise."""
    try:
        client.cancel(job_id, reason)
    except JobNotRunning:
        # Perhaps our own doing: the master's answer to an earlier try may have been lost.
        if client.job(job_id).cancel_reason is None:
            raise
