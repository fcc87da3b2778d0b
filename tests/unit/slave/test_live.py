"""What a slave shows of running attempts, and that it keeps out of the way."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from dist_test.errors import DatabaseUnavailable
from dist_test.model.task import AttemptKey, QueueEntry, Task
from dist_test.model.written import TAIL_BYTES, Written
from dist_test.running.records import OutputFile, RunResult
from dist_test.running.tails import TailsRequest, answer
from dist_test.slave.holdings import Holding, Holdings
from dist_test.slave.live import LiveOutput
from dist_test.storage.claims import Claim
from dist_test.storage.live_logs import Wanted
from dist_test.storage.queue import Queue, Reservation

NOTHING = Written(total_bytes=0, tail=b"")


class FakeStore:
    """Rows that are wanted, and what was written to them."""

    def __init__(self) -> None:
        self.rows: dict[AttemptKey, Wanted] = {}
        self.written: list[tuple[Claim, Mapping[str, Written]]] = []
        self.asked: list[Sequence[int]] = []
        self.is_away = False

    def want(self, key: AttemptKey) -> None:
        self.rows[key] = Wanted(key=key, claim=None, stdout_bytes=0, stderr_bytes=0)

    def wanted(self, jobs: Sequence[int]) -> list[Wanted]:
        if self.is_away:
            raise DatabaseUnavailable("it is away")
        self.asked.append(jobs)
        return [row for key, row in self.rows.items() if key.job in jobs]

    def write(self, claim: Claim, written: Mapping[str, Written]) -> bool:
        self.written.append((claim, written))
        sizes = {f"{name}_bytes": written[name].total_bytes for name in ("stdout", "stderr")}
        self.rows[claim.key] = Wanted(key=claim.key, claim=claim.number, **sizes)
        return True


def held(holdings: Holdings, number: int = 0) -> Holding:
    key = AttemptKey(1, number, 0)
    entry = QueueEntry(key=key, job_id="j", task=Task(isolate_hash="a" * 40, description="t"), delivery=1)
    holding = Holding(
        entry=entry, queue=cast(Queue, None), reservation=cast(Reservation, None), claim=Claim(key=key, number=3)
    )
    holdings.add(holding)
    return holding


def says(stdout: bytes) -> Callable[[], TailsRequest]:
    def ask() -> TailsRequest:
        request = TailsRequest()
        answer(request.fd, Written(total_bytes=len(stdout), tail=stdout), NOTHING)
        return request

    return ask


def result(directory: Path, stdout: bytes, written_bytes: int | None = None) -> RunResult:
    paths = directory / "1.stdout", directory / "1.stderr"
    for path, content in zip(paths, (stdout, b""), strict=True):
        path.write_bytes(content)
    return RunResult(
        outcome="succeeded",
        exit_status=0,
        duration=cast(object, None),  # type: ignore[arg-type]  # nobody looks
        stdout=OutputFile(path=paths[0], size_bytes=len(stdout)),
        stderr=OutputFile(path=paths[1], size_bytes=0),
        artifacts=None,
        notes=(),
        leaked_dir=None,
        written_bytes=(len(stdout) if written_bytes is None else written_bytes, 0),
    )


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def holdings() -> Holdings:
    return Holdings()


@pytest.fixture
def live(store: FakeStore, holdings: Holdings) -> LiveOutput:
    return LiveOutput(store, holdings)


def test_a_slave_that_holds_nothing_asks_nothing(live: LiveOutput, store: FakeStore) -> None:
    live.round()
    assert store.asked == []


def test_only_what_is_looked_at_is_asked_for_and_written(
    live: LiveOutput, store: FakeStore, holdings: Holdings
) -> None:
    watched, other = held(holdings, 0), held(holdings, 1)
    watched.on_look(says(b"hello"))
    other.on_look(lambda: pytest.fail("nobody looks at it"))
    store.want(watched.claim.key)
    live.round()
    assert store.written == [(watched.claim, {"stdout": Written(total_bytes=5, tail=b"hello"), "stderr": NOTHING})]


def test_what_has_not_changed_is_not_written_again(live: LiveOutput, store: FakeStore, holdings: Holdings) -> None:
    holding = held(holdings)
    holding.on_look(says(b"hello"))
    store.want(holding.claim.key)
    for _ in range(3):
        live.round()
    assert len(store.written) == 1
    holding.on_look(says(b"hello you"))
    live.round()
    assert len(store.written) == 2


def test_a_launcher_that_does_not_answer_is_asked_again_later_and_never_waited_for(
    store: FakeStore, holdings: Holdings
) -> None:
    now = 0.0
    requests: list[TailsRequest] = []

    def silent() -> TailsRequest:
        requests.append(TailsRequest())
        return requests[-1]

    live = LiveOutput(store, holdings, clock=lambda: now)
    holding = held(holdings)
    holding.on_look(silent)
    store.want(holding.claim.key)
    live.round()
    live.round()
    assert len(requests) == 1
    now = 3.0
    live.round()
    assert len(requests) == 2
    assert store.written == []


def test_the_end_is_written_once_it_is_recorded(
    live: LiveOutput, store: FakeStore, holdings: Holdings, tmp_path: Path
) -> None:
    holding = held(holdings)
    holding.on_look(says(b"begin"))
    store.want(holding.claim.key)
    live.round()
    holding.ended()
    live.ended(holding, result(tmp_path, b"begin and end"))
    live.round()
    assert len(store.written) == 1
    holdings.remove(holding)
    live.round()
    live.round()
    assert [written["stdout"].tail for _, written in store.written] == [b"begin", b"begin and end"]


def test_the_end_of_what_nobody_looks_at_is_not_read(
    live: LiveOutput, store: FakeStore, holdings: Holdings, tmp_path: Path
) -> None:
    holding = held(holdings)
    live.round()
    ran = result(tmp_path, b"x")
    ran.discard()
    live.ended(holding, ran)
    holdings.remove(holding)
    live.round()
    assert store.written == []


def test_the_end_of_a_long_log_is_its_newest_bytes(
    live: LiveOutput, store: FakeStore, holdings: Holdings, tmp_path: Path
) -> None:
    holding = held(holdings)
    store.want(holding.claim.key)
    live.round()
    content = bytes(TAIL_BYTES) + b"end"
    live.ended(holding, result(tmp_path, content))
    holdings.remove(holding)
    live.round()
    [(_, written)] = store.written
    assert written["stdout"] == Written(total_bytes=len(content), tail=content[-TAIL_BYTES:])


def test_files_that_are_gone_are_no_reason_to_fail(
    live: LiveOutput, store: FakeStore, holdings: Holdings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    holding = held(holdings)
    store.want(holding.claim.key)
    live.round()
    ran = result(tmp_path, b"x")
    ran.discard()
    with caplog.at_level(logging.WARNING):
        live.ended(holding, ran)
    assert "Cannot show the end" in caplog.text
