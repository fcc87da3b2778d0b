"""What the addresses of logs and artifacts have in common: they name one attempt, and something that it left."""

from dataclasses import dataclass

from dist_test.errors import ResultNotFound
from dist_test.master.links import key_of, stored_bytes
from dist_test.master.query import required, whole_number
from dist_test.master.site import site
from dist_test.storage.jobs import AttemptRecord

MAX_ATTEMPT = 2**15


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object that an attempt left in the bucket."""

    job_id: str
    attempt: AttemptRecord
    name: str
    key: str
    size_bytes: int

    @property
    def filename(self) -> str:
        """What to call it on somebody's disk."""
        return f"{self.job_id}.{self.attempt.task_id}.{self.attempt.key.attempt}.{self.name}"


def asked_attempt() -> AttemptRecord:
    """The attempt that the request names. Raises BadRequest, JobNotFound, TaskNotFound."""
    number = whole_number("attempt", default=0, low=0, high=MAX_ATTEMPT)
    return site().service.find_attempt(required("job_id"), required("task_id"), number)


def stored_of(job_id: str, attempt: AttemptRecord, name: str) -> Stored:
    """What the attempt left under this name: one of stdout, stderr, artifacts.zip. Raises ResultNotFound."""
    size = stored_bytes(attempt, name)
    if size is None:
        raise ResultNotFound(f"no {name} was stored of {attempt.task_id} attempt {attempt.key.attempt}")
    key = key_of(job_id, attempt, name)
    return Stored(job_id=job_id, attempt=attempt, name=name, key=key, size_bytes=size)
