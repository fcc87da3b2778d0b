"""The environment that a task gets: clean, not the slave's own."""

from collections.abc import Iterable, Mapping

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUN_MARKER = "DIST_TEST_RUN"


def task_environment(
    *,
    base: Mapping[str, str],
    own: Mapping[str, str],
    attempt_dir: str,
    user: str,
    job_id: str,
    task_id: str,
    attempt: int,
) -> dict[str, str]:
    """What the command sees. The operator's `base` wins over the defaults, the task's `own` over both.

    HOME and TMPDIR are private to the attempt and emptied after it.
    """
    return {
        "PATH": DEFAULT_PATH,
        "HOME": f"{attempt_dir}/home",
        "TMPDIR": f"{attempt_dir}/tmp",
        "USER": user,
        "LOGNAME": user,
        "LANG": "C.UTF-8",
        "DIST_TEST_JOB_ID": job_id,
        "DIST_TEST_TASK_ID": task_id,
        "DIST_TEST_ATTEMPT": str(attempt),
        **base,
        **own,
    }


def operator_environment(
    *, pass_environment: Iterable[str], environment: Mapping[str, str], source: Mapping[str, str]
) -> dict[str, str]:
    """The operator's part: the variables of `source` named in `pass_environment`, then `environment`."""
    return {**{name: source[name] for name in pass_environment if name in source}, **environment}
