"""What the programs' exit codes mean."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Scripts rely on these, the original's Kudu jobs among them."""

    SUCCESS = 0
    ERROR = 1
    USAGE = 2  # click's own as well
    JOB_FAILED = 88  # the job is finished, and a task of it failed or it was canceled
