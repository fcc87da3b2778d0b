"""The ids of jobs that run again what failed in an earlier one. PURE."""

import hashlib
import re

_RERUN = re.compile(r"(?P<first>.+)\.rerun-(?P<number>[1-9][0-9]{0,8})")
_MAX_CHARACTERS = 200  # of a job id
_DIGEST_CHARACTERS = 16


def rerun_id(job_id: str) -> str:
    """The id of the job that runs again what failed in this one: the same at every call."""
    match = _RERUN.fullmatch(job_id)
    first, number = (match["first"], int(match["number"]) + 1) if match else (job_id, 1)
    name = f"{first}.rerun-{number}"
    if len(name) <= _MAX_CHARACTERS:
        return name
    # Cut names stay different where the whole ones were.
    digest = hashlib.sha256(job_id.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    ending = f"~{digest}.rerun-{number}"
    return first[: _MAX_CHARACTERS - len(ending)] + ending


def rerun_of(job_id: str) -> str | None:
    """The id of the job that this one runs again, as far as its own id tells; None when it is no rerun."""
    match = _RERUN.fullmatch(job_id)
    if match is None:
        return None
    number = int(match["number"]) - 1
    return f"{match['first']}.rerun-{number}" if number else match["first"]
