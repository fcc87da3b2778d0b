"""What a slave holds, and whom it interrupts when that is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from dist_test.errors import RunError
from dist_test.isolate.cache import BlobCache, CachedTree
from dist_test.isolate.format import Tree
from dist_test.model.task import AttemptKey, QueueEntry, Task
from dist_test.running.launcher_process import Meanwhile
from dist_test.running.records import RunRequest, RunResult
from dist_test.running.runner import Runner
from dist_test.slave.holdings import Holding, Stop
from dist_test.slave.task import SetupFailure, run_attempt
from dist_test.storage.claims import Claim
from dist_test.storage.queue import Queue, Reservation


class FakeCache:
    """Has every tree, empty but for a command."""

    @contextmanager
    def checkout(self, isolated_hash: str) -> Iterator[CachedTree]:
        yield CachedTree(tree=Tree(files=(), command=("true",), relative_cwd=""), isolated=b"{}", _blobs="")


class FakeRunner:
    """Runs nothing; `during` is called as if a task were running. Counts who was told to stop."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self._during = during
        self.canceled = 0

    def run(self, request: RunRequest, *, on_started: Callable[[], None], meanwhile: Meanwhile) -> RunResult:
        on_started()
        self._during()
        raise RunError("it was only a test")

    def ask_for_tails(self) -> None:
        """Nothing runs, so there is nothing to ask for."""

    def cancel(self) -> None:
        self.canceled += 1


@pytest.fixture
def holding() -> Holding:
    key = AttemptKey(1, 0, 0)
    entry = QueueEntry(key=key, job_id="j", task=Task(isolate_hash="a" * 40, description="d"), delivery=1)
    reservation = Reservation(entry=1, body="", connection=1)
    return Holding(entry=entry, queue=cast(Queue, None), reservation=reservation, claim=Claim(key=key, number=1))


def _run(holding: Holding, runner: FakeRunner) -> None:
    assert isinstance(
        run_attempt(holding, cast(BlobCache, FakeCache()), cast(Runner, runner), meanwhile=lambda: None), SetupFailure
    )


def test_an_attempt_that_is_lost_while_it_runs_is_interrupted(holding: Holding) -> None:
    runner = FakeRunner(during=lambda: holding.stop(Stop.TAKEN))
    _run(holding, runner)
    assert runner.canceled == 1


def test_an_attempt_that_was_lost_before_it_runs_is_interrupted_once_it_does(holding: Holding) -> None:
    runner = FakeRunner()
    holding.stop(Stop.CANCELED)
    holding.on_stop(runner.cancel)
    assert runner.canceled == 1


def test_an_attempt_that_is_lost_after_it_ran_leaves_the_next_one_of_its_slot_alone(holding: Holding) -> None:
    runner = FakeRunner()
    _run(holding, runner)
    holding.stop(Stop.TAKEN)
    assert (runner.canceled, holding.stopped) == (0, Stop.TAKEN)
