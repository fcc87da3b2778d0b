"""Store logs and artifacts beside the next task, so that a slow bucket does not hold up a slot."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from dist_test.errors import ResultStoreUnavailable
from dist_test.model.result_key import ARTIFACTS, STDERR, STDOUT, result_key
from dist_test.running.records import RunResult
from dist_test.slave.holdings import Holding

logger = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
ZIP = "application/zip"


class Store(Protocol):
    """Where results go."""

    def upload(self, key: str, source: IO[bytes], size_bytes: int, *, content_type: str = ...) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """Sizes of what was stored, None for what was not; `is_lost` when something should have been and could not."""

    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    artifact_bytes: int | None = None
    is_lost: bool = False


class Uploader:
    """A few threads that store results."""

    def __init__(self, store: Store, *, threads: int) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="upload")

    def submit(self, holding: Holding, result: RunResult, then: Callable[[Uploaded], None]) -> None:
        """Store what the attempt left, then call `then`: from here when there is nothing to store."""
        if result.outcome == "succeeded" and result.artifacts is None:
            then(Uploaded())
        else:
            self._pool.submit(self._run, holding, result, then)

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True)

    def _run(self, holding: Holding, result: RunResult, then: Callable[[Uploaded], None]) -> None:
        uploaded = Uploaded(is_lost=True)
        try:
            uploaded = self._store_all(holding, result)
        except (ResultStoreUnavailable, OSError) as exc:
            # The verdict counts for more than the log: it is recorded all the same.
            logger.error("Logs of %s are lost: %s", holding.entry.name, exc, extra={"action": "logs_lost"})
        except Exception:  # whatever happens here, the result must be recorded
            logger.exception("Logs of %s are lost", holding.entry.name)
        finally:
            then(uploaded)

    def _store_all(self, holding: Holding, result: RunResult) -> Uploaded:
        stdout = stderr = artifacts = None
        if result.outcome != "succeeded":
            stdout = self._store_file(holding, STDOUT, result.stdout.path, TEXT)
            stderr = self._store_file(holding, STDERR, result.stderr.path, TEXT)
        if result.artifacts is not None:
            artifacts = self._store_file(holding, ARTIFACTS, result.artifacts.path, ZIP)
        return Uploaded(stdout_bytes=stdout, stderr_bytes=stderr, artifact_bytes=artifacts)

    def _store_file(self, holding: Holding, name: str, path: Path, content_type: str) -> int:
        entry = holding.entry
        key = result_key(entry.job_id, entry.task_id, entry.key.attempt, holding.claim.number, name)
        size = path.stat().st_size
        with path.open("rb") as source:
            self._store.upload(key, source, size, content_type=content_type)
        return size
