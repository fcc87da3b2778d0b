"""What a Runner takes and gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from dist_test.running.tree import TreeEntry


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """One attempt to run.

    isolated: the root document, written to the tree as `task.isolated`. timeout None means no limit.
    leak: leave the attempt's directory behind, for a human to look at.
    """

    entries: Sequence[TreeEntry]
    isolated: bytes
    command: Sequence[str]
    relative_cwd: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta | None = None
    artifact_globs: Sequence[str] = ()
    docker_image: str | None = None
    job_id: str = ""
    task_id: str = ""
    attempt: int = 0
    leak: bool = False


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A stream that the command wrote; the file is there until the result is discarded."""

    path: Path
    size_bytes: int

    def open(self) -> BinaryIO:
        return self.path.open("rb")

    def tail(self, size_bytes: int) -> bytes:
        """The last bytes: where a test says what went wrong."""
        with self.open() as content:
            content.seek(max(0, self.size_bytes - size_bytes))
            return content.read(size_bytes)


@dataclass(frozen=True, kw_only=True)
class ArtifactArchive:
    """The zip of the artifacts; `notes` say what is not in it."""

    path: Path
    size_bytes: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How an attempt ended: `outcome` is succeeded, failed, timed_out or canceled.

    exit_status: the command's exit code, -N when signal N ended it; None when the launcher died with it.
    duration: of the command alone. artifacts: None when no glob matched. notes: one sentence each, for the log.
    written_bytes: to stdout and to stderr, whatever was kept of it; None when nobody counted.
    """

    outcome: str
    exit_status: int | None
    duration: timedelta
    stdout: OutputFile
    stderr: OutputFile
    artifacts: ArtifactArchive | None
    notes: tuple[str, ...]
    leaked_dir: Path | None
    written_bytes: tuple[int, int] | None = None

    def discard(self) -> None:
        """Remove the result's files. They survive the next run, so that they can be uploaded beside it."""
        # Whoever calls this twice, or after a clean-up of the disk, has a verdict in hand that matters more.
        self.stdout.path.unlink(missing_ok=True)
        self.stderr.path.unlink(missing_ok=True)
        if self.artifacts is not None:
            self.artifacts.path.unlink(missing_ok=True)
