"""A task, its attempts, and the queue entry that asks a slave to run one."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from dist_test.errors import InvalidJob, shown


class AttemptKey(NamedTuple):
    """Names one attempt: the job's row id, the task's place in the job, the attempt's number from 0."""

    job: int
    task: int
    attempt: int

    def next(self) -> "AttemptKey":
        """The attempt that follows this one."""
        return self._replace(attempt=self.attempt + 1)

    def __str__(self) -> str:
        return f"{self.job}/{self.task}/{self.attempt}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One isolated test run, as submitted. `timeout_seconds` is 0 for no limit."""

    isolate_hash: str
    description: str
    timeout_seconds: int = 0
    max_retries: int = 0
    artifact_globs: tuple[str, ...] = ()
    docker_image: str | None = None
    env: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The task in the original's job JSON; keys that say nothing are left out."""
        document: dict[str, Any] = {
            "isolate_hash": self.isolate_hash,
            "description": self.description,
            "timeout": self.timeout_seconds,
            "max_retries": self.max_retries,
            "artifact_archive_globs": list(self.artifact_globs),
        }
        if self.docker_image is not None:
            document["docker_image"] = self.docker_image
        if self.env:
            document["env"] = dict(self.env)
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> "Task":
        """The task in what `to_json` gave."""
        return cls(
            isolate_hash=document["isolate_hash"],
            description=document["description"],
            timeout_seconds=document["timeout"],
            max_retries=document["max_retries"],
            artifact_globs=tuple(document["artifact_archive_globs"]),
            docker_image=document.get("docker_image"),
            env=tuple(document.get("env", {}).items()),
        )


def task_id(isolate_hash: str, index: int) -> str:
    """The name of a task inside its job: its hash and its place in the list, as the original gave it."""
    return f"{isolate_hash}.{index}"


def task_index(name: str) -> int | None:
    """The place in the job that a task id names; None when it is not a task id."""
    index = name.rpartition(".")[2]
    return int(index) if index.isascii() and index.isdigit() and len(index) < 10 else None


@dataclass(frozen=True, kw_only=True)
class QueueEntry:
    """What stands in beanstalkd for one attempt: all that a slave needs to run it.

    `delivery` counts the times that this attempt was put; an entry older than the row's is void. `avoid` names the
    slaves on which the task has failed before. `expected_seconds` is None when nobody has run such a task yet.
    """

    key: AttemptKey
    job_id: str
    task: Task
    delivery: int
    expected_seconds: float | None = None
    avoid: tuple[str, ...] = field(default=())

    @property
    def task_id(self) -> str:
        return task_id(self.task.isolate_hash, self.key.task)

    @property
    def name(self) -> str:
        """The attempt's name in logs."""
        return f"{self.job_id} {self.task_id} attempt {self.key.attempt}"

    def with_delivery(self, delivery: int) -> "QueueEntry":
        return replace(self, delivery=delivery)

    def to_body(self) -> str:
        """The entry as the text that goes into the queue."""
        document = self.task.to_json() | {
            "job": self.key.job,
            "index": self.key.task,
            "attempt": self.key.attempt,
            "job_id": self.job_id,
            "task_id": self.task_id,
            "delivery": self.delivery,
        }
        if self.avoid:
            document["avoid"] = list(self.avoid)
        if self.expected_seconds is not None:
            document["expected_seconds"] = round(self.expected_seconds, 3)
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_body(cls, body: str | bytes) -> "QueueEntry":
        """Read an entry. Raises InvalidJob when it is not one of ours."""
        try:
            document = json.loads(body)
            return cls(
                key=AttemptKey(document["job"], document["index"], document["attempt"]),
                job_id=document["job_id"],
                task=Task.from_json(document),
                delivery=document["delivery"],
                expected_seconds=document.get("expected_seconds"),
                avoid=tuple(document.get("avoid", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise InvalidJob(f"a queue entry is not one of dist_test's ({shown(exc)}): {shown(body[:200])}") from exc
