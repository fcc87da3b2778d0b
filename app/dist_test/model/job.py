"""Read a job as a client submits it: strictly on the new API, forgivingly on the original's paths."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dist_test.errors import InvalidJob, shortened
from dist_test.model.task import Task

JOB_ID = re.compile(r"[A-Za-z0-9._:@+=,~-]{1,200}")
NAME = re.compile(r"[^\x00-\x1f\x7f]{0,200}")
DIGEST = re.compile(r"[0-9a-f]{40}")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
IMAGE = re.compile(r"[!-,.-~][!-~]{0,254}")  # podman would take a name that begins with - for an option
OUTSIDE = re.compile(r"^/|(?:^|/)\.\.(?![^/])")  # found in a pattern that leads out of the task's directory
# The original's client makes PREFIX.user.unixtime.pid; grind and Kudu send no owner but this.
_ORIGINAL_JOB_ID = re.compile(r"(?:(?P<prefix>.+)\.)?(?P<user>[^.]+)\.\d{9,}\.\d+(?:-[0-9a-f]+)?")

MAX_TASKS = 200_000
MAX_DESCRIPTION_CHARACTERS = 2_000
MAX_TIMEOUT_SECONDS = 7 * 86_400
MAX_RETRIES = 1_000
MAX_GLOBS = 100
MAX_GLOB_CHARACTERS = 1_000
MAX_ENVIRONMENT_CHARACTERS = 32_000
ORIGINAL_MAX_FAILED_TASKS = 100  # what the original had fixed in its slave

_TASK_KEYS = frozenset(
    ("isolate_hash", "description", "timeout", "max_retries", "artifact_archive_globs", "docker_image", "env")
)


_JOB_KEYS = frozenset(("job_id", "tasks", "name", "project", "owner", "max_failed_tasks"))


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as submitted, valid. `max_failed_tasks` is None for no limit."""

    job_id: str
    tasks: tuple[Task, ...]
    name: str = ""
    project: str = ""
    owner: str = ""
    max_failed_tasks: int | None = None

    @property
    def fingerprint(self) -> str:
        """A digest of everything that makes two submits the same job."""
        document = [self.max_failed_tasks, self.project, [task.to_json() for task in self.tasks]]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def parse_job(document: Any) -> Job:
    """Read the body of `POST /api/v1/jobs`. Raises InvalidJob with the JSON path of the first thing that is wrong."""
    fields = _object(document, "the job")
    _refuse_unknown(fields, _JOB_KEYS, "")
    job_id = parse_job_id(fields.get("job_id"))
    limit = fields.get("max_failed_tasks")
    name = _name(fields, "name")
    return Job(
        job_id=job_id,
        tasks=_tasks(fields, strict=True),
        name=name,
        project=_name(fields, "project") or name,
        owner=_name(fields, "owner"),
        max_failed_tasks=None if limit is None else _integer(limit, "max_failed_tasks", 0, MAX_TASKS),
    )


def parse_original_job(job_id: str, job_json: str) -> Job:
    """Read the form of the original's `/submit_job`: unknown keys are ignored, negative `max_retries` are 0."""
    try:
        document = json.loads(job_json)
    except json.JSONDecodeError as exc:
        raise InvalidJob(f"job_json is not JSON: {exc.msg} at character {exc.pos}") from exc
    except (RecursionError, ValueError) as exc:  # thousands of brackets, or of digits
        raise InvalidJob(f"job_json cannot be read: {exc}") from exc
    fields = _object(document, "job_json")
    parts = _ORIGINAL_JOB_ID.fullmatch(parse_job_id(job_id))
    prefix = (parts["prefix"] or "") if parts else ""
    return Job(
        job_id=job_id,
        tasks=_tasks(fields, strict=False),
        name=_name(fields, "name") or prefix,
        project=_name(fields, "project") or prefix,
        owner=_name(fields, "owner") or (parts["user"] if parts else ""),
        max_failed_tasks=ORIGINAL_MAX_FAILED_TASKS,
    )


def parse_job_id(value: Any) -> str:
    """A valid job id. Raises InvalidJob."""
    # A path of nothing but dots means another directory: to S3 clients, to browsers, to proxies.
    if not isinstance(value, str) or not JOB_ID.fullmatch(value) or not value.strip("."):
        raise InvalidJob(f"job_id is {_shown(value)}; give 1 to 200 letters, digits and ._:@+=,~-, not dots alone")
    return value


def _tasks(fields: dict[str, Any], *, strict: bool) -> tuple[Task, ...]:
    tasks = fields.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        raise InvalidJob(f"tasks is {_shown(tasks)}; give a list of at least one task")
    if len(tasks) > MAX_TASKS:
        raise InvalidJob(f"tasks has {len(tasks)} items; the limit is {MAX_TASKS}, so split the job")
    return tuple(_task(item, f"tasks[{index}]", strict=strict) for index, item in enumerate(tasks))


def _task(value: Any, where: str, *, strict: bool) -> Task:
    fields = _object(value, where)
    if strict:
        _refuse_unknown(fields, _TASK_KEYS, f"{where}.")
    digest = fields.get("isolate_hash")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise InvalidJob(f"{where}.isolate_hash is {_shown(digest)}; give the 40 hex digits of a SHA-1")
    # Kudu sends -1 when its tests are not to be retried (compatibility.md 9, no. 2).
    lowest = 0 if strict else -(2**31)
    image = fields.get("docker_image")
    return Task(
        isolate_hash=digest,
        description=_text(fields.get("description"), f"{where}.description", MAX_DESCRIPTION_CHARACTERS),
        timeout_seconds=_integer(fields.get("timeout", 0), f"{where}.timeout", 0, MAX_TIMEOUT_SECONDS),
        max_retries=max(0, _integer(fields.get("max_retries", 0), f"{where}.max_retries", lowest, MAX_RETRIES)),
        artifact_globs=tuple(_globs(fields.get("artifact_archive_globs"), f"{where}.artifact_archive_globs")),
        docker_image=None if image is None else _image(image, f"{where}.docker_image"),
        env=tuple(_environment(fields.get("env"), f"{where}.env")),
    )


def _globs(value: Any, where: str) -> Iterator[str]:
    if value is None:
        return
    if not isinstance(value, list) or len(value) > MAX_GLOBS:
        raise InvalidJob(f"{where} is {_shown(value)}; give a list of at most {MAX_GLOBS} patterns")
    for index, glob in enumerate(value):
        name = f"{where}[{index}]"
        pattern = _text(glob, name, MAX_GLOB_CHARACTERS)
        if OUTSIDE.search(pattern):
            raise InvalidJob(f"{name} is {_shown(glob)}; give a pattern inside the task's directory")
        yield pattern


def _image(value: Any, where: str) -> str:
    if not isinstance(value, str) or not IMAGE.fullmatch(value):
        raise InvalidJob(f"{where} is {_shown(value)}; give the name of a container image")
    return value


def _environment(value: Any, where: str) -> Iterator[tuple[str, str]]:
    fields = {} if value is None else _object(value, where)
    for name, setting in fields.items():
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise InvalidJob(f"{where} has the name {_shown(name)}; give letters, digits and _")
        yield name, _text(setting, f"{where}.{shortened(name)}", MAX_ENVIRONMENT_CHARACTERS)


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidJob(f"{where} is {_shown(value)}; give a JSON object")
    return value


def _refuse_unknown(fields: dict[str, Any], known: frozenset[str], prefix: str) -> None:
    for key in fields:
        if key not in known:
            raise InvalidJob(f"{prefix}{shortened(key)} is not known; known are {', '.join(sorted(known))}")


def _integer(value: Any, where: str, low: int, high: int) -> int:
    # JSON knows no integers: a client may well send 930.0. True is an int in Python only.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidJob(f"{where} is {_shown(value)}; give a whole number from {low} to {high}")
    return value


def _text(value: Any, where: str, limit: int) -> str:
    if not isinstance(value, str):
        raise InvalidJob(f"{where} is {_shown(value)}; give a text")
    if len(value) > limit:
        raise InvalidJob(f"{where} has {len(value)} characters; the limit is {limit}")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidJob(f"{where} is {_shown(value)}; NUL and lone surrogates are not allowed")
    return value


def _name(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise InvalidJob(f"{key} is {_shown(value)}; give at most 200 printable characters")
    return _text(value, key, 200)


def _shown(value: Any) -> str:
    try:
        shown = "missing" if value is None else json.dumps(value)
    except (RecursionError, ValueError):  # thousands of brackets, or of digits
        return "a value too large to show"
    return shortened(shown)
