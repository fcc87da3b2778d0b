"""Turn files and a command into an `.isolated` document and the blobs that it stands on.

A directory becomes a document of its own, which the main one includes: tests that share a directory share it. A link
stays a link while it leads to somewhere in the tree; one that leads out of it is stored as the file it points to.
"""

# Plain strings: a Path costs more than the system call that it is made for.
# ruff: noqa: PTH112, PTH115, PTH116, PTH118, PTH120

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from typing import NamedTuple

from dist_test.errors import IsolateError
from dist_test.isolate.blob import LocalBlob
from dist_test.isolate.digest import digest_bytes
from dist_test.isolate.format import Isolated, TreeFile, emit_isolated
from dist_test.isolate.isolate_file import ArchiveOptions, load_isolate
from dist_test.isolate.stat_cache import StatCache

BLACKLIST = (".git", ".hg", ".svn")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An `.isolated` document, its hash, which names the task, and every blob it stands on, itself included."""

    digest: str
    isolated: bytes = field(repr=False)
    blobs: tuple[LocalBlob, ...] = field(repr=False)


class Archiver:
    """Makes archives of trees that do not change in the meantime: each file and directory is looked at once."""

    def __init__(self, stat_cache: StatCache) -> None:
        self._stat_cache = stat_cache
        self._files: dict[tuple[str, str], _Found] = {}
        self._digests: dict[str, str] = {}
        self._directories: dict[tuple[str, str, tuple[str, ...]], _Directory] = {}

    def archive_isolate(self, options: ArchiveOptions) -> Archive:
        """Archive what an `.isolate` names, and write the `.isolated` beside it, where the options say.

        Raises InvalidIsolate, IsolateError when a file is missing or cannot be read.
        """
        isolate = load_isolate(
            options.isolate, options.variables, working_directory=options.working_directory, read=_read_text
        )
        root = _common_root(str(isolate.directory), isolate.files)
        relative_cwd = os.path.relpath(isolate.directory, root)
        archive = self.archive(
            Path(root),
            isolate.files,
            command=isolate.command,
            relative_cwd="" if relative_cwd == "." else relative_cwd,
            read_only=isolate.read_only,
            blacklist=BLACKLIST if options.blacklist is None else options.blacklist,
        )
        _write(options.isolated, archive.isolated)
        return archive

    def archive(
        self,
        root: Path,
        paths: Iterable[str],
        *,
        command: Sequence[str] = (),
        relative_cwd: str = "",
        read_only: int | None = None,
        blacklist: tuple[str, ...] = BLACKLIST,
    ) -> Archive:
        """Archive these absolute paths below `root`; a `/` at the end marks directories.

        blacklist: patterns of names, or of paths below the directory, that are left out of directories.
        Raises IsolateError when a path is missing, not below root, or neither file, directory nor link.
        """
        top = str(root)
        named = list(dict.fromkeys(paths))
        singles = [self._find(path, top) for path in named if not path.endswith("/")]
        directories = [self._directory(path.rstrip("/") or "/", top, blacklist) for path in named if path.endswith("/")]
        _refuse_paths_through_links([_relative(path.rstrip("/"), top) for path in named], singles, directories)
        isolated = Isolated(
            command=tuple(command),
            files=tuple(self._tree_files(singles)),
            includes=tuple(dict.fromkeys(directory.digest for directory in directories)),
            relative_cwd=relative_cwd,
            read_only=read_only,
        )
        content = emit_isolated(isolated)
        document = _document_blob(content)
        blobs = [document, *self._blobs(singles), *(blob for directory in directories for blob in directory.blobs)]
        unique = {blob.digest: blob for blob in blobs}
        return Archive(digest=document.digest, isolated=content, blobs=tuple(unique.values()))

    def _find(self, path: str, top: str) -> "_Found":
        key = (path, top)
        if key not in self._files:
            found = _look(path, top)
            if found.link is None and stat.S_ISDIR(found.stat.st_mode):
                raise IsolateError(f"{path} is a directory; write {path}/ to archive all that is in it")
            self._files[key] = found
        return self._files[key]

    def _directory(self, path: str, top: str, blacklist: tuple[str, ...]) -> "_Directory":
        key = (path, top, blacklist)
        if key not in self._directories:
            if not os.path.isdir(path):
                raise IsolateError(f"{path}/ is {'not a directory' if os.path.lexists(path) else 'missing'}")
            left_out = re.compile("|".join(map(translate, blacklist)) or r"(?!)")
            found = list(_walk(path, top, "", left_out))
            self._directories[key] = self._make_directory(found)
        return self._directories[key]

    def _make_directory(self, found: Sequence["_Found"]) -> "_Directory":
        content = emit_isolated(Isolated(files=tuple(self._tree_files(found))))
        document = _document_blob(content)
        links = frozenset(item.relative for item in found if item.link is not None)
        return _Directory(document.digest, (document, *self._blobs(found)), links)

    def _tree_files(self, found: Sequence["_Found"]) -> Iterator[TreeFile]:
        self._hash(found)
        for item in found:
            if item.link is not None:
                yield TreeFile(path=item.relative, link=item.link)
            else:
                yield TreeFile(
                    path=item.relative,
                    digest=self._digests[item.path],
                    size_bytes=item.stat.st_size,
                    mode=item.stat.st_mode & 0o777,
                )

    def _blobs(self, found: Sequence["_Found"]) -> Iterator[LocalBlob]:
        for item in found:
            if item.link is None:
                yield LocalBlob(digest=self._digests[item.path], size_bytes=item.stat.st_size, content=item.path)

    def _hash(self, found: Sequence["_Found"]) -> None:
        new = [(item.path, item.stat) for item in found if item.link is None and item.path not in self._digests]
        self._digests.update(self._stat_cache.digests(new))


class _Found(NamedTuple):
    """A file or link of the tree: where it is, where in the tree, what stat says, and the target of a link."""

    path: str
    relative: str
    stat: os.stat_result
    link: str | None


class _Directory(NamedTuple):
    """A directory's document, with its blobs and the links in it."""

    digest: str
    blobs: tuple[LocalBlob, ...]
    links: frozenset[str]


def _walk(path: str, top: str, below: str, left_out: re.Pattern[str]) -> Iterator[_Found]:
    try:
        with os.scandir(path) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as exc:
        raise IsolateError(f"{path}/ cannot be read: {exc.strerror}") from exc
    for entry in entries:
        inside = f"{below}{entry.name}"
        if left_out.match(entry.name) or left_out.match(inside):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, top, f"{inside}/", left_out)
        else:
            yield _look(entry.path, top)


def _look(path: str, top: str) -> _Found:
    relative = _relative(path, top)
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(path)
            _refuse_circle(path, target)
            if _stays_inside(path, target, top):
                return _Found(path, relative, found, target)
            found = _stat_outside(path, target)
    except FileNotFoundError as exc:
        raise IsolateError(f"{path} is missing") from exc
    except OSError as exc:
        raise IsolateError(f"{path} cannot be read: {exc.strerror}") from exc
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise IsolateError(f"{path} is neither a file nor a directory nor a link; remove it, or leave it out")
    return _Found(path, relative, found, None)


def _stays_inside(path: str, target: str, top: str) -> bool:
    """Whether a link still leads to the same place when the tree is somewhere else."""
    if target.startswith("/"):
        return False
    by_name = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return _is_below(by_name, top) and _is_below(os.path.realpath(path), os.path.realpath(top))


def _refuse_circle(path: str, target: str) -> None:
    """Refuse a link that leads back to itself: it could not be fetched again."""
    try:
        os.stat(path)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise IsolateError(f"{path} is a link to {target}, which leads back to it; remove it") from exc


def _stat_outside(path: str, target: str) -> os.stat_result:
    try:
        found = os.stat(path)
    except FileNotFoundError as exc:
        raise IsolateError(f"{path} is a link to {target}, which is outside of the tree and missing") from exc
    if stat.S_ISDIR(found.st_mode):
        raise IsolateError(
            f"{path} is a link to the directory {target}, which is outside of the tree; link to a place inside,"
            " or leave it out with --blacklist"
        )
    return found


def _refuse_paths_through_links(
    named: Sequence[str], singles: Sequence[_Found], directories: Sequence[_Directory]
) -> None:
    links = {item.relative for item in singles if item.link is not None}.union(*(d.links for d in directories))
    for path in named if links else ():
        parent = os.path.dirname(path)
        while parent:
            if parent in links:
                raise IsolateError(f"{path} goes through {parent}, which is archived as a link; name what it links to")
            parent = os.path.dirname(parent)


def _relative(path: str, top: str) -> str:
    if path == top:
        return ""
    if not _is_below(path, top):
        raise IsolateError(f"{path} is not below {top}, the root of the tree")
    return path[len(top.rstrip("/")) + 1 :]


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def _common_root(directory: str, files: Sequence[str]) -> str:
    # A file directly in the root has the root as its directory; a directory entry may be the root itself.
    return os.path.commonpath([directory, *(os.path.dirname(path) or "/" for path in files)])


def _document_blob(content: bytes) -> LocalBlob:
    return LocalBlob(digest=digest_bytes(content), size_bytes=len(content), content=content, is_isolated=True)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise IsolateError(f"{path} cannot be read: {exc}") from exc


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as exc:
        raise IsolateError(f"{path} cannot be written: {exc.strerror}") from exc
