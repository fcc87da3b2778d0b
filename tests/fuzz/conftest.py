"""`fuzz`: run a target shortly, the same way each time; with --fuzz-minutes, for its share of that time.

The tests share the time evenly, and what they found is told at the end.
"""

from collections.abc import Callable

import pytest

from ..services.conftest import (
    accounts,
    beanstalk_settings,
    beanstalkd,
    database,
    mariadb,
    master_database,
    migrated_database,
    queue,
    queues,
    seaweedfs,
    slave_database,
)
from ..services.master.conftest import bucket, environ, hand, make_app, service, settings
from .running import Extent, Run
from .target import Target

__all__ = [
    "accounts",
    "beanstalk_settings",
    "beanstalkd",
    "bucket",
    "database",
    "environ",
    "hand",
    "make_app",
    "mariadb",
    "master_database",
    "migrated_database",
    "queue",
    "queues",
    "seaweedfs",
    "service",
    "settings",
    "slave_database",
]

SHORT = Extent(drawn=50, mutated=150, large=2)  # for each target in `make test`

Fuzz = Callable[[Target], None]


@pytest.fixture
def fuzz(fuzz_seconds: float | None, tell: Callable[[str], None]) -> Fuzz:
    """Read the corpus and more than that; fail when something fails."""

    def run(target: Target) -> None:
        run = Run(target, explores=fuzz_seconds is not None)
        run.replay()
        if fuzz_seconds is None:
            run.try_some(SHORT)
            print(run.report)
            return
        run.try_for(fuzz_seconds)
        tell(str(run.report))
        assert not run.report.failures, "\n".join(f"{place}: {path}" for place, path in run.report.failures.items())

    return run
