"""Links to what an attempt has left in the bucket."""

from typing import Protocol

from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT, result_key
from dist_test.storage.jobs import AttemptRecord

LINK_SECONDS = 86_400  # as long as the original's links worked

# The names under which the original's files were saved.
_FILENAMES = {STDOUT: ".stdout", STDERR: ".stderr", ARTIFACTS: "-artifacts.zip"}


class LinkSigner(Protocol):
    """Makes links that need no account."""

    def presign_get(self, key: str, *, seconds: int = ..., filename: str | None = None) -> str: ...


def stored_bytes(attempt: AttemptRecord, name: str) -> int | None:
    """The size of what was stored under this name; None when nothing was."""
    sizes = {STDOUT: attempt.stdout_bytes, STDERR: attempt.stderr_bytes, ARTIFACTS: attempt.artifact_bytes}
    return sizes[name]


def key_of(job_id: str, attempt: AttemptRecord, name: str) -> str:
    """The object's key in the bucket."""
    return result_key(job_id, attempt.task_id, attempt.key.attempt, attempt.claim, name)


def link(results: LinkSigner, job_id: str, attempt: AttemptRecord, name: str) -> str | None:
    """A link that works for a day; None when nothing was stored under this name. Secret enough not to be logged."""
    if stored_bytes(attempt, name) is None:
        return None
    filename = f"{job_id}.{attempt.task_id}.{attempt.key.attempt}{_FILENAMES[name]}"
    return results.presign_get(key_of(job_id, attempt, name), seconds=LINK_SECONDS, filename=filename)
