"""`dist-test status`: one job in detail, or the latest ones."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from dist_test.cli.clock import RealClock
from dist_test.cli.failures import Failures
from dist_test.cli.master_client import MasterClient
from dist_test.cli.messages import printable, say
from dist_test.cli.progress import describe_failure
from dist_test.cli.records import Job
from dist_test.cli.remembered_job import job_or_last
from dist_test.settings import load_client_settings


@click.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("--all", "show_all", is_flag=True, help="The latest jobs of everybody instead of one.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="With --all: how many.")
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON with the keys of the master's API.")
def status(job_id: str | None, *, show_all: bool, limit: int, as_json: bool) -> None:
    """Show a job as it stands; without JOB, the last one submitted. Exits 0 however the job fares."""
    if show_all and job_id:
        raise click.UsageError("give a JOB or --all, not both")
    settings = load_client_settings()
    client = MasterClient.from_settings(settings, clock=RealClock(), report=say)
    if show_all:
        jobs = client.jobs(limit=limit).jobs
        click.echo(to_json([asdict(job) for job in jobs]) if as_json else "\n".join(table(jobs)))
        return
    job = client.job(job_or_last(job_id, settings.job_path))
    click.echo(to_json(asdict(job)) if as_json else "\n".join(details(client, job)))


def to_json(document: Any) -> str:
    """The document with its times as the API writes them."""
    return json.dumps(document, indent=2, default=_time_text)


def table(jobs: tuple[Job, ...]) -> Iterator[str]:
    """One line for each job."""
    rows: list[tuple[str, ...]] = [("JOB", "SUBMITTED", "OWNER", "STATE", "DONE", "FAILED")]
    rows += [_row(job) for job in jobs]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def details(client: MasterClient, job: Job) -> Iterator[str]:
    """What there is to say about one job, its failed tasks last."""
    fields = {
        "job": job.job_id,
        "name": job.name,
        "project": job.project,
        "owner": job.owner,
        "state": job.result or job.state,
        "canceled": job.cancel_reason or "",
        "submitted": _local(job.submitted_at),
        "finished": _local(job.finished_at) if job.finished_at else "",
        "tasks": _tasks(job),
        "web page": job.url,
    }
    for label, value in fields.items():
        if value:
            yield f"{label + ':':<11}{printable(value)}"
    failures = Failures(client, job.job_id)
    for attempt in failures.new(job):
        yield f"{'failed:':<11}{describe_failure(attempt)}"
    if (more := failures.more(job)) > 0:
        yield f"{'':<11}{more} more failed tasks"


def _tasks(job: Job) -> str:
    counters = job.counters
    counts = {
        "running": job.running_attempts,
        "succeeded": counters.succeeded_tasks,
        "flaky": counters.flaky_tasks,
        "failed": counters.failed_tasks - counters.canceled_tasks,
        "canceled": counters.canceled_tasks,
        "being retried": counters.retrying_tasks,
    }
    shown = "".join(f", {count} {what}" for what, count in counts.items() if count)
    return f"{counters.finished_tasks} of {counters.total_tasks} done{shown}"


def _row(job: Job) -> tuple[str, ...]:
    counters = job.counters
    return (
        job.job_id,
        _local(job.submitted_at),
        printable(job.owner) or "-",
        job.result or job.state,
        f"{counters.finished_tasks}/{counters.total_tasks}",
        str(counters.failed_tasks),
    )


def _local(time: datetime) -> str:
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _time_text(value: datetime) -> str:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
