"""Fixtures for every kind of test."""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings

from dist_test.local.ports import free_port as choose_free_port

# For an hour to spare: pytest --hypothesis-profile=thorough
settings.register_profile("thorough", max_examples=1000)


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    return choose_free_port()


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Take back what a program that is called within the test asked for: task users could not enter later trees."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


_TOLD = pytest.StashKey[list[str]]()


@pytest.fixture
def fuzz_seconds(request: pytest.FixtureRequest) -> float | None:
    """This test's share of the time for fuzzing; None when it is to be short, and the same each time."""
    minutes: float | None = request.config.getoption("--fuzz-minutes")
    return None if minutes is None else 60 * minutes / request.session.testscollected


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say something at the end of the whole run."""
    return request.config.stash.setdefault(_TOLD, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what tests have told."""
    for line in config.stash.get(_TOLD, []):
        terminalreporter.write_line(line)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run what takes minutes as well: make testbed-full")
    parser.addoption("--fuzz-minutes", type=float, help="how long to look for inputs that fail: make fuzz")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes minutes, and runs with --full only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked full, unless --full wants it."""
    if config.getoption("--full"):
        return
    slow = [item for item in items if item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]
