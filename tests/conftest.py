"""Fixtures for every kind of test."""

import pytest

from dist_test.local.ports import free_port as choose_free_port


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    return choose_free_port()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run what takes minutes as well: make testbed-full")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes minutes, and runs with --full only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; `make testbed-full` runs it"))
