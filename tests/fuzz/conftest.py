"""`fuzz`: run a target shortly, the same way each time; with --fuzz-minutes, for its share of that time.

The targets share the time evenly, and what they found is told at the end.
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
from .running import Extent, Report, Run
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
_REPORTS = pytest.StashKey[list[Report]]()


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Read the corpus and more than that; fail when something fails."""
    minutes: float | None = request.config.getoption("--fuzz-minutes")
    seconds = None if minutes is None else 60 * minutes / request.session.testscollected

    def run(target: Target) -> None:
        run = Run(target, explores=seconds is not None)
        if seconds is None:
            run.replay()
            run.try_some(SHORT)
            return
        request.config.stash.setdefault(_REPORTS, []).append(run.report)
        run.replay()
        run.try_for(seconds)
        assert not run.report.failures, "\n".join(f"{place}: {path}" for place, path in run.report.failures.items())

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what came of each target."""
    reports = config.stash.get(_REPORTS, [])
    for report in reports:
        terminalreporter.write_line(str(report))
