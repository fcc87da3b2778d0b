"""A task: every attempt of it in order, what each left, and how to run it on one's own machine."""

import shlex

from flask import render_template

from dist_test.errors import TaskNotFound
from dist_test.master.auth import open_to_all
from dist_test.master.live import StreamName
from dist_test.master.pages.attempt import MAX_ATTEMPT
from dist_test.master.pages.blueprint import web
from dist_test.master.pages.log import LogView, view_of
from dist_test.master.query import choice, required, whole_number
from dist_test.master.site import site
from dist_test.model.task import Task, task_index
from dist_test.storage.jobs import AttemptRecord


@web.get("/task")
@open_to_all
def task() -> str:
    """`task_id` may be the task's place in the job, for people who type."""
    record, asked = site().service.jobs.get(required("job_id")), required("task_id")
    index = task_index(asked)
    submitted = None if index is None else site().service.attempts.task(record.job_key, index)
    attempts = [] if index is None else site().service.attempts.of_task(record.job_key, index)
    if submitted is None or not attempts or asked not in (attempts[0].task_id, str(index)):
        raise TaskNotFound(f"job {record.job_id} has no task {asked}")
    return render_template(
        "task.html",
        job=record,
        task=submitted,
        task_id=attempts[0].task_id,
        attempts=attempts,
        shown=_shown_log(record.job_id, attempts),
        isolate_server=site().isolate_server,
        is_live=record.state != "finished",
    )


def _shown_log(job_id: str, attempts: list[AttemptRecord]) -> LogView | None:
    name, number = choice("log", StreamName), whole_number("attempt", default=0, low=0, high=MAX_ATTEMPT)
    found = [attempt for attempt in attempts if attempt.key.attempt == number]
    return view_of(job_id, found[0], name) if name and found else None


@web.app_template_filter("command_for")
def command_for(task: Task, isolate_server: str | None) -> str:
    """The command that runs the task on one's own machine, for a shell. PURE."""
    words = ["dist-test", "run-isolated", "--hash", task.isolate_hash, "--leak-temp-dir"]
    for name, value in task.env:
        words += ["--env", f"{name}={value}"]
    server = [f"ISOLATE_SERVER={shlex.quote(isolate_server)}"] if isolate_server else []
    return " ".join([*server, *map(shlex.quote, words)])
