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


@pytest.fixture(scope="session")
def machines_work() -> None:
    if reason := why_not():
        pytest.skip(f"NO HOSTS TO DEPLOY ON, so nothing of the deployment is tested: {reason}")


@pytest.fixture(scope="module")
def bed(machines_work: None, phase: Phase) -> Iterator[Bed]:
    """The five hosts with empty disks; TESTBED_KEEP=1 leaves them up."""
    bed = Bed.from_environment()
    warm = WarmLayer(tree=bed.tree).find()
    bed = bed.with_layers(warm) if warm else bed
    try:
        with phase("root tree and five hosts"):
            bed.reset()
        yield bed
    finally:
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
