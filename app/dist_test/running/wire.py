"""What a Runner asks of its launcher, and what it hears back."""

from dataclasses import dataclass
from typing import Any

from dist_test.running.tree import TreeEntry

MAX_ARTIFACT_BYTES = 200 * 2**20  # uncompressed; what the original allowed
SUCCEEDED, FAILED, TIMED_OUT, CANCELED = "succeeded", "failed", "timed_out", "canceled"


@dataclass(frozen=True, kw_only=True)
class Files:
    """The private tree to write. `isolated` becomes `task.isolated` in its root."""

    entries: list[TreeEntry]
    isolated: str
    relative_cwd: str


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command to run and its limits; its stdout and stderr are the first two descriptors of the message.

    settle_seconds: how long the other processes of the attempt may take to end by themselves once the leader has ended.
    remove_container: a command that ends and removes the container, for when it did not end by itself.
    """

    argv: list[str]
    cwd: str
    env: dict[str, str]
    timeout_seconds: float | None
    kill_grace_seconds: float
    output_limit_bytes: int
    settle_seconds: float = 0.0
    remove_container: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """One message to a launcher: the steps that are not None or False, in this order.

    A container's attempt is spread over two launchers: one writes and archives the tree, the other runs the command.
    The archive is written to the last descriptor of the message.
    """

    serial: int
    files: Files | None = None
    command: Command | None = None
    archive: list[str] | None = None
    archive_limit_bytes: int = MAX_ARTIFACT_BYTES
    clean: bool = False

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Work":
        files, command = message["files"], message["command"]
        if files:
            message["files"] = Files(**{**files, "entries": [TreeEntry(*entry) for entry in files["entries"]]})
        if command:
            message["command"] = Command(**command)
        return cls(**message)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the command ended: `exit_status` is its exit code, -N when signal N ended it, None when nobody could see.

    written_bytes: to stdout and to stderr, whatever the limit kept; None if nobody counted, or the disk lost some.
    """

    outcome: str
    exit_status: int | None
    seconds: float
    lost_output_bytes: int = 0
    written_bytes: tuple[int, int] | None = None

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Ended":
        written = message["written_bytes"]
        return cls(**{**message, "written_bytes": tuple(written) if written else None})


@dataclass(frozen=True, kw_only=True)
class Done:
    """A launcher's answer. `error` is set when something failed that is not the task's fault.

    archived: how many files the archive holds.
    """

    ended: Ended | None = None
    archived: int = 0
    notes: tuple[str, ...] = ()
    error: str | None = None

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Done":
        ended = Ended.from_message(message["ended"]) if message["ended"] else None
        return cls(**{**message, "ended": ended, "notes": tuple(message["notes"])})
