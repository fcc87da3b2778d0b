"""Where the logs and artifacts of an attempt are kept in the bucket."""

STDOUT, STDERR, ARTIFACTS = "stdout", "stderr", "artifacts.zip"


def result_key(job_id: str, task_id: str, attempt: int, claim: int, name: str) -> str:
    """The object's key. The claim keeps a ghost's logs away from the winner's (reliability.md, "An attempt's life")."""
    return f"{job_id}/{task_id}/{attempt}/{claim}/{name}"
