"""The job that was submitted last, so that `watch`, `cancel`, `fetch` and `status` can do without its id."""

from pathlib import Path

from dist_test.errors import ConfigurationError, JobNotFound


def remember(job_path: Path, job_id: str) -> None:
    """Write the job's id to the file and nothing else: scripts of Kudu's `cat` it. Raises ConfigurationError."""
    try:
        job_path.write_text(job_id, encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(
            f"the job's id cannot be written to {job_path}: {exc.strerror};"
            " set DIST_TEST_JOB_PATH to a file that can be written"
        ) from exc


def job_or_last(job_id: str | None, job_path: Path) -> str:
    """This job id, or else the remembered one. Raises JobNotFound when there is none."""
    if job_id:
        return job_id
    try:
        remembered = job_path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        remembered = ""
    except (OSError, UnicodeDecodeError) as exc:
        raise JobNotFound(f"the last job's id cannot be read from {job_path}: {exc}; give a job id") from exc
    if not remembered:
        raise JobNotFound(f"no job was submitted from here yet ({job_path} says none); give a job id")
    return remembered
