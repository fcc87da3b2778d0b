"""Read the file that describes a job, and give the job its id."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dist_test.errors import InvalidJob
from dist_test.model.job import Job, parse_job

_UNSAFE = re.compile(r"[^A-Za-z0-9_@+=,~-]")  # a dot separates the parts of an id
_LONGEST_NAME = 100  # of a job id's 200 characters
# The original took these from files and overwrote or ignored them, so files have them.
_ORIGINAL_KEYS = ("job_id", "task_id", "attempt")

MakeId = Callable[[str], str]
"""Gives a job of this name its id."""
Warn = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What the command line says about a job; None for what it leaves to the file."""

    name: str | None = None
    project: str | None = None
    owner: str | None = None
    max_failed_tasks: int | None = None


def read_job_file(path: str) -> Any:
    """The JSON document in the file, or on standard input when it is `-`. Raises InvalidJob."""
    where = "standard input" if path == "-" else path
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        return json.loads(content)
    except OSError as exc:
        raise InvalidJob(f"{where} cannot be read: {exc.strerror}") from exc
    except json.JSONDecodeError as exc:
        raise InvalidJob(f"{where} is not JSON: line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc
    except (ValueError, RecursionError) as exc:  # not UTF-8, or thousands of digits or brackets
        raise InvalidJob(f"{where} is not JSON: {exc}") from exc


def make_job(document: Any, submission: Submission, *, user: str, make_id: MakeId, warn: Warn) -> Job:
    """The job to submit: what the command line says, else the file, else `user` for the owner.

    Raises InvalidJob with the JSON path of what is wrong.
    """
    if not isinstance(document, Mapping):
        raise InvalidJob('the file holds no JSON object; give one such as {"tasks": [...]}')
    fields = {key: value for key, value in document.items() if key != "job_id"}
    if isinstance(fields.get("tasks"), list):
        fields["tasks"] = _forgive(fields["tasks"], warn)
    said = {key: value for key, value in asdict(submission).items() if value is not None}
    fields = {"owner": user, **fields, **said}
    name = fields.get("name")
    return parse_job(fields | {"job_id": make_id(name if isinstance(name, str) else "")})


def to_document(job: Job) -> dict[str, Any]:
    """The job as the body of a submit."""
    return {
        "job_id": job.job_id,
        "tasks": [task.to_json() for task in job.tasks],
        "name": job.name,
        "project": job.project,
        "owner": job.owner,
        "max_failed_tasks": job.max_failed_tasks,
    }


def generate_job_id(name: str, *, user: str, unix_time: int, pid: int, random: str) -> str:
    """`[name.]user.unixtime.pid-random`, the original's and four digits more: two hosts may have one user and pid."""
    parts = [_safe(name)[:_LONGEST_NAME], _safe(user)[: _LONGEST_NAME // 2], str(unix_time), f"{pid}-{random}"]
    return ".".join(part for part in parts if part)


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)


def _forgive(tasks: list[Any], warn: Warn) -> list[Any]:
    """Kudu writes max_retries -1 for tests that are not to be retried."""
    forgiven = []
    negative = 0
    for task in tasks:
        if isinstance(task, Mapping):
            task = {key: value for key, value in task.items() if key not in _ORIGINAL_KEYS}
            retries = task.get("max_retries")
            if isinstance(retries, int) and retries < 0:
                task["max_retries"] = 0
                negative += 1
        forgiven.append(task)
    if negative:
        warn(f"max_retries is negative in {negative} of {len(tasks)} tasks; taken as 0")
    return forgiven
