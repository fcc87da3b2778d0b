"""The files that a result consists of, while they are written."""

# Plain strings here: a Path costs more than the system call that it is made for.
# ruff: noqa: PTH108

import os
from contextlib import suppress
from pathlib import Path

from dist_test.running.records import ArtifactArchive, OutputFile


class ResultFiles:
    """The files of one attempt, in a directory that no task can reach; the launcher writes them through descriptors."""

    def __init__(self, directory: Path, serial: int, *, with_archive: bool) -> None:
        names = ("stdout", "stderr", "zip") if with_archive else ("stdout", "stderr")
        self._paths = [f"{directory}/{serial}.{name}" for name in names]
        self._fds: list[int] = []

    def open(self) -> None:
        """Create the files. Raises OSError."""
        for path in self._paths:
            self._fds.append(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(self._fds[:2])

    @property
    def archive(self) -> tuple[int, ...]:
        return tuple(self._fds[2:])

    def say(self, message: str) -> None:
        """Add a line of ours to the task's stderr."""
        os.write(self._fds[1], f"------\n{message}\n".encode())

    def stdout(self) -> OutputFile:
        return OutputFile(path=Path(self._paths[0]), size_bytes=os.fstat(self._fds[0]).st_size)

    def stderr(self) -> OutputFile:
        return OutputFile(path=Path(self._paths[1]), size_bytes=os.fstat(self._fds[1]).st_size)

    def artifacts(self, count: int, notes: tuple[str, ...]) -> ArtifactArchive | None:
        """The archive if it holds anything; an empty one is removed."""
        if len(self._paths) < 3:
            return None
        if count == 0:
            os.unlink(self._paths.pop())
            return None
        return ArtifactArchive(path=Path(self._paths[2]), size_bytes=os.fstat(self._fds[2]).st_size, notes=notes)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)

    def remove(self) -> None:
        for path in self._paths:
            with suppress(FileNotFoundError):
                os.unlink(path)
