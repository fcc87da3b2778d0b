"""The archive of what a task left behind: files chosen by globs, in a zip of bounded size."""

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import IO

from dist_test.running.wire import MAX_ARTIFACT_BYTES

DROPPED_NAME = "_DROPPED_FILES_.txt"
# Level 1 packs logs three times as fast as the default, for a tenth more bytes; the slot waits for it.
_COMPRESSION_LEVEL = 1
_MAX_NOTES = 10  # a task can make as many unreadable places as it likes, and the notes go into the attempt's row


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A regular file below the tree's root: `path` is relative to it."""

    path: str
    size_bytes: int


def find(root: str, globs: Sequence[str]) -> tuple[list[Artifact], list[str]]:
    """The regular files that a glob matches, in path order, and notes on what could not be read.

    `*` and `?` do not cross a `/`; a component `**` stands for any number of directories. Wildcards match names that
    start with a dot: an artifact too many beats one that is missing. Links are never followed and never matched.
    """
    patterns = [tuple(part for part in glob.split("/") if part not in ("", ".")) for glob in globs]
    notes: list[str] = []
    found = list(_walk(root, _States.start(patterns), notes))
    return sorted(found, key=lambda artifact: artifact.path), notes


def choose(artifacts: Sequence[Artifact], limit_bytes: int) -> tuple[list[Artifact], list[Artifact]]:
    """Those to keep and to drop: the smallest are kept first, so that one huge file does not cost all the others."""
    kept: list[Artifact] = []
    dropped: list[Artifact] = []
    total = 0
    for artifact in sorted(artifacts, key=lambda artifact: (artifact.size_bytes, artifact.path)):
        total += artifact.size_bytes
        (kept if total <= limit_bytes else dropped).append(artifact)
    return sorted(kept, key=lambda artifact: artifact.path), sorted(dropped, key=lambda artifact: artifact.path)


def archive(
    root: str, globs: Sequence[str], target: IO[bytes], *, limit_bytes: int = MAX_ARTIFACT_BYTES
) -> tuple[int, list[str]]:
    """Write the zip to `target` and return the number of files in it, and notes; nothing is written without a match.

    Raises OSError when the target's disk is full.
    """
    found, notes = find(root, globs)
    if not found:
        return 0, _shortened(notes)
    kept, dropped = choose(found, limit_bytes)
    count = 0
    with zipfile.ZipFile(
        target, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION_LEVEL, strict_timestamps=False
    ) as packed:
        for artifact in kept:
            count += _add(packed, root, artifact, notes)
        if dropped:
            packed.writestr(DROPPED_NAME, _dropped_listing(dropped, limit_bytes))
            total = sum(artifact.size_bytes for artifact in dropped)
            notes.append(
                f"{len(dropped)} artifacts ({total} bytes) were left out: more than {limit_bytes} bytes in all. "
                f"{DROPPED_NAME} in the archive lists them"
            )
    return count, _shortened(notes)


def _shortened(notes: list[str]) -> list[str]:
    left_out = len(notes) - _MAX_NOTES
    return [*notes[:_MAX_NOTES], f"{left_out} more such notes"] if left_out > 0 else notes


class _States(frozenset[tuple[str, ...]]):
    """What is left to match of each pattern, below one directory."""

    @classmethod
    def start(cls, patterns: Iterable[tuple[str, ...]]) -> "_States":
        return cls(_past_stars(patterns))

    def below(self, name: str) -> "_States":
        """What is left once a component has been called `name`."""
        return _States(_past_stars(_after(self, name)))

    @property
    def is_match(self) -> bool:
        return () in self or ("**",) in self


def _after(states: Iterable[tuple[str, ...]], name: str) -> Iterator[tuple[str, ...]]:
    for rest in states:
        if rest and rest[0] == "**":
            yield rest
        elif rest and fnmatchcase(name, rest[0]):
            yield rest[1:]


def _past_stars(states: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    for rest in states:
        yield rest
        # `a/**/b` matches a/b; but a last `**` wants something below `a`, it does not match `a` itself.
        while len(rest) > 1 and rest[0] == "**":
            rest = rest[1:]
            yield rest


def _walk(root: str, states: _States, notes: list[str]) -> Iterator[Artifact]:
    pending = [("", states)]  # not recursion: a task may nest directories as deep as it likes
    while pending:
        prefix, states = pending.pop()
        for entry in _listing(root, prefix, notes):
            below = states.below(entry.name)
            if not below:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append((f"{prefix}{entry.name}/", below))
            elif below.is_match and entry.is_file(follow_symlinks=False):
                yield from _artifact(entry, prefix, notes)


def _artifact(entry: os.DirEntry[str], prefix: str, notes: list[str]) -> Iterator[Artifact]:
    try:
        yield Artifact(path=prefix + entry.name, size_bytes=entry.stat(follow_symlinks=False).st_size)
    except OSError as error:  # a path that is too long, say
        notes.append(f"artifact {_as_text(prefix + entry.name)} could not be read: {error.strerror}")


def _listing(root: str, prefix: str, notes: list[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(f"{root}/{prefix}") as entries:
            return list(entries)
    except OSError as error:
        notes.append(f"artifacts below {_as_text(prefix) or '.'} could not be read: {error.strerror}")
        return []


def _add(packed: zipfile.ZipFile, root: str, artifact: Artifact, notes: list[str]) -> bool:
    name = _as_text(artifact.path)
    try:
        # By path is safe here: no process of the task is left that could swap the file for a link.
        packed.write(f"{root}/{artifact.path}", name)
    except PermissionError as error:
        notes.append(f"artifact {name} could not be read: {error.strerror}")
        return False
    return True


def _as_text(path: str) -> str:
    # Names in a zip and in a database are Unicode; a file's are bytes.
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _dropped_listing(dropped: Sequence[Artifact], limit_bytes: int) -> bytes:
    lines = [f"Left out, to stay under {limit_bytes} bytes:"]
    lines += [f"{artifact.size_bytes}\t{artifact.path}" for artifact in dropped]
    return "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
