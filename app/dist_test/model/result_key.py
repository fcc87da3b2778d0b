"""Where the logs and artifacts of an attempt are kept in the bucket."""

import re

STDOUT, STDERR, ARTIFACTS = "stdout", "stderr", "artifacts.zip"
_KEY = re.compile(rf"[^/]+/[^/]+/\d+/\d+/(?:{STDOUT}|{STDERR}|{re.escape(ARTIFACTS)})")


def result_key(job_id: str, task_id: str, attempt: int, claim: int, name: str) -> str:
    """The object's key. The claim keeps a ghost's logs away from the winner's (reliability.md, "An attempt's life")."""
    return f"{job_id}/{task_id}/{attempt}/{claim}/{name}"


def is_result_key(key: str) -> bool:
    """Whether an object is a log or an artifact: blobs, whose keys look different, may be in the same bucket."""
    return _KEY.fullmatch(key) is not None
