"""The testbed's hosts for tests, where this computer can run them."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from images.machine import why_not
from tests.testbed.bed import Bed
from tests.testbed.warm import WarmLayer

Phase = Callable[[str], AbstractContextManager[None]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run what takes minutes as well: make testbed-full")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: takes minutes, and runs with --full only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Unknown when the tests of all folders are collected: pytest has read its options before it comes here.
    if config.getoption("--full", default=False):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; `make testbed-full` runs it"))


@pytest.fixture(scope="session")
def machines_work() -> None:
    if reason := why_not():
        pytest.skip(f"NO HOSTS TO DEPLOY ON, so nothing of the deployment is tested: {reason}")


@pytest.fixture(scope="module")
def bed(machines_work: None) -> Iterator[Bed]:
    """The five hosts with empty disks; TESTBED_KEEP=1 leaves them up."""
    bed = Bed.from_environment()
    warm = WarmLayer(tree=bed.tree).find()
    bed = bed.with_layers(warm) if warm else bed
    bed.reset()
    yield bed
    if not os.environ.get("TESTBED_KEEP"):
        bed.down()


@pytest.fixture(scope="session")
def phase(pytestconfig: pytest.Config) -> Phase:
    """`with phase("what"):` prints how long it took, also while pytest captures."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None

    @contextmanager
    def measure(what: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            with capture.global_and_fixture_disabled():
                print(f"\n  {what}: {time.monotonic() - started:.1f} s", flush=True)

    return measure
