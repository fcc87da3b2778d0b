"""The `.isolated` document, and the tree that it makes together with the documents that it includes.

A document is JSON; it lists files by path, digest, size and mode, and may include other documents by digest. Nothing
here touches a disk. What leads out of the tree is refused here, before anything is written.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dist_test.errors import InvalidIsolated, shown
from dist_test.isolate.digest import is_digest

MAX_ISOLATED_BYTES = 64 * 2**20  # some 500,000 files; what a server may make us hold in memory
MAX_PATH_BYTES = 4095  # limits.h: PATH_MAX counts the NUL at the end
_MAX_LINK_HOPS = 40  # path_resolution(7): Linux gives up after 40
_MAX_LINK_PARTS = 4096  # of all the links that one leads through: more would take us seconds to follow
_VERSION = re.compile(r"1\.(\d{1,3})")
_DOCUMENT_KEYS = frozenset({"version", "algo", "command", "files", "includes", "read_only", "relative_cwd", "os"})
_FILE_KEYS = frozenset({"h", "s", "m", "l", "t"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeFile:
    """One entry of a tree: a file (digest and size_bytes, perhaps mode) or a symlink (link). mode has nine bits."""

    path: str
    digest: str | None = None
    size_bytes: int = 0
    mode: int | None = None
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class Isolated:
    """One document, by itself. `relative_cwd` is None when it says nothing about it, "" for the tree's root."""

    command: tuple[str, ...] = ()
    files: tuple[TreeFile, ...] = ()
    includes: tuple[str, ...] = ()
    relative_cwd: str | None = None
    read_only: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A document merged with all that it includes. `relative_cwd` is "" for the root; no path is named twice.

    read_only: 0 all may be written, 1 not the files, 2 not the directories either.
    """

    command: tuple[str, ...]
    relative_cwd: str
    files: tuple[TreeFile, ...]
    read_only: int = 0


def parse_isolated(content: bytes) -> Isolated:
    """Read one document of any version 1.x. Raises InvalidIsolated, for unknown keys as well."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise InvalidIsolated(f"the .isolated document is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise InvalidIsolated(f"the .isolated document is a {type(document).__name__}; it must be a JSON object")
    _refuse_unknown(document, _DOCUMENT_KEYS, "the .isolated document")
    _check_header(document)
    return Isolated(
        command=_texts(document, "command"),
        files=tuple(_file(path, entry) for path, entry in _object(document, "files").items()),
        includes=_includes(document),
        relative_cwd=_relative_cwd(document),
        read_only=document.get("read_only"),
    )


def emit_isolated(isolated: Isolated) -> bytes:
    """Write the document as compact JSON with sorted keys, version 1.4, which every reader of 1.x takes."""
    document: dict[str, Any] = {"algo": "sha-1", "version": "1.4"}
    document["files"] = {file.path: _entry(file) for file in isolated.files}
    if isolated.command:
        document["command"] = list(isolated.command)
    if isolated.includes:
        document["includes"] = list(isolated.includes)
    if isolated.read_only is not None:
        document["read_only"] = isolated.read_only
    if isolated.relative_cwd:
        document["relative_cwd"] = isolated.relative_cwd
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def merge(root: str, documents: Mapping[str, Isolated]) -> Tree:
    """Merge the document `root` with its includes, all of which are in `documents` by digest.

    Depth first, parents first, left to right; the first definition of a path wins, and so for command,
    relative_cwd and read_only. A document reached by two ways counts once; one that includes itself is refused. Raises
    InvalidIsolated also for a path that uses a file or link as a directory, and for links that lead out of the tree.
    """
    command: tuple[str, ...] = ()
    relative_cwd: str | None = None
    read_only: int | None = None
    files: dict[str, TreeFile] = {}
    for isolated in _depth_first(root, documents):
        command = command or isolated.command
        relative_cwd = isolated.relative_cwd if relative_cwd is None else relative_cwd
        read_only = isolated.read_only if read_only is None else read_only
        for file in isolated.files:
            files.setdefault(file.path, file)
    _check_directories(files)
    _check_links(files)
    return Tree(command=command, relative_cwd=relative_cwd or "", files=tuple(files.values()), read_only=read_only or 0)


def check_path(path: object, what: str) -> str:
    """Return a path that stays in the tree, or raise InvalidIsolated: relative, no `..`, `.`, or empty component."""
    text = _name(path, what)
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise InvalidIsolated(f"{what} {shown(text)} must be relative, without empty, '.' and '..' components")
    return text


def _depth_first(root: str, documents: Mapping[str, Isolated]) -> Iterator[Isolated]:
    # A stack of our own: a chain of includes may be longer than Python's recursion limit.
    done: set[str] = set()
    open_digests: set[str] = set()
    stack = [(root, False)]
    while stack:
        digest, is_leaving = stack.pop()
        if is_leaving:
            open_digests.discard(digest)
            done.add(digest)
        elif digest in open_digests:
            raise InvalidIsolated(f"the .isolated document {digest} includes itself")
        elif digest not in done:
            open_digests.add(digest)
            isolated = documents[digest]
            yield isolated
            stack.append((digest, True))
            stack.extend((include, False) for include in reversed(isolated.includes))


def _check_directories(files: Mapping[str, TreeFile]) -> None:
    # In this order, what is below a path comes right after it: NUL, which is in no path, sorts before all else.
    paths = sorted(files, key=lambda path: path.replace("/", "\0"))
    for parent, path in itertools.pairwise(paths):
        if path.startswith(f"{parent}/"):
            raise InvalidIsolated(f"{shown(parent)} is a file or a link, and also a directory of {shown(path)}")


def _check_links(files: Mapping[str, TreeFile]) -> None:
    links = {file.path: file.link for file in files.values() if file.link is not None}
    for path, target in links.items():
        if not stays_inside(path, target, links):
            raise InvalidIsolated(f"the link {shown(path)} to {shown(target)} leads out of the tree")


def stays_inside(path: str, target: str, links: Mapping[str, str]) -> bool:
    """Whether following `path`, a link to `target`, never leaves the root, whatever other links it passes through.

    Judging the text alone is not enough: with a/b -> ., a link to a/b/../.. leaves the tree. False as well for one
    that takes longer to follow than any would that is meant.
    """
    where = path.rpartition("/")[0]
    todo = [*reversed(target.split("/"))]
    hops, parts = 1, 0
    if target.startswith("/"):
        return False
    while todo:
        part = todo.pop()
        parts += 1
        if (part == ".." and not where) or parts > _MAX_LINK_PARTS or len(where) > MAX_PATH_BYTES:
            return False
        if part == "..":
            where = where.rpartition("/")[0]
        elif part not in ("", "."):
            here = f"{where}/{part}" if where else part
            onward = links.get(here)
            if onward is None:
                where = here
                continue
            hops += 1
            if onward.startswith("/") or hops > _MAX_LINK_HOPS:
                return False
            todo.extend(reversed(onward.split("/")))
    return True


def _check_header(document: Mapping[str, Any]) -> None:
    version = document.get("version", "1.0")
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        raise InvalidIsolated(f"the .isolated document has version {shown(version)}; only 1.x can be read")
    if document.get("algo", "sha-1") != "sha-1":
        raise InvalidIsolated(f"the .isolated document has algo {shown(document['algo'])}; only 'sha-1' can be read")
    if "read_only" in document and not _is_int_in(document["read_only"], range(3)):
        raise InvalidIsolated(f"read_only is {shown(document['read_only'])}; it must be 0, 1 or 2")
    # luci-py isolated_format.py: "os" was dropped with version 1.4
    if "os" in document and (int(match[1]) >= 4 or not isinstance(document["os"], str)):
        raise InvalidIsolated(f"key 'os' is not allowed in version {version} of an .isolated document")


def _file(path: str, entry: object) -> TreeFile:
    check_path(path, "path")
    what = f"the entry of {shown(path)}"
    if not isinstance(entry, dict):
        raise InvalidIsolated(f"{what} is {shown(entry)}; it must be a JSON object")
    _refuse_unknown(entry, _FILE_KEYS, what)
    if entry.get("t", "basic") != "basic":
        raise InvalidIsolated(f"{what} has type {shown(entry['t'])}; only plain files can be read")
    if "l" in entry:
        return _link(path, entry, what)
    if not is_digest(entry.get("h")):
        raise InvalidIsolated(f"{what} has digest {shown(entry.get('h'))}; it must be 40 lower-case hex digits")
    if not _is_int_in(entry.get("s"), range(2**63)):
        raise InvalidIsolated(f"{what} has size {shown(entry.get('s'))}; it must be a number of bytes")
    if "m" in entry and not _is_int_in(entry["m"], range(0o10000)):
        raise InvalidIsolated(f"{what} has mode {shown(entry['m'])}; it must be permission bits, 0 to 4095")
    # A setuid bit would mean nothing good in a copy that belongs to somebody else.
    mode = entry["m"] & 0o777 if "m" in entry else None
    return TreeFile(path=path, digest=entry["h"], size_bytes=entry["s"], mode=mode)


def _link(path: str, entry: Mapping[str, Any], what: str) -> TreeFile:
    if not entry.keys() <= {"l", "t"}:
        raise InvalidIsolated(f"{what} has a link target and other keys: {shown(sorted(entry))}")
    target = _name(entry["l"], f"link target of {shown(path)}")
    if not target:
        raise InvalidIsolated(f"{what} has an empty link target")
    return TreeFile(path=path, link=target)


def _entry(file: TreeFile) -> dict[str, Any]:
    if file.link is not None:
        return {"l": file.link}
    mode = {} if file.mode is None else {"m": file.mode}
    return {"h": file.digest, "s": file.size_bytes} | mode


def _includes(document: Mapping[str, Any]) -> tuple[str, ...]:
    includes = _texts(document, "includes")
    for digest in includes:
        if not is_digest(digest):
            raise InvalidIsolated(f"includes has {shown(digest)}; it must be 40 lower-case hex digits")
    return includes


def _relative_cwd(document: Mapping[str, Any]) -> str | None:
    if "relative_cwd" not in document:
        return None
    relative_cwd = document["relative_cwd"]
    return "" if relative_cwd in ("", ".") else check_path(relative_cwd, "relative_cwd")


def _texts(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    if key not in document:
        return ()
    texts = document[key]
    if not isinstance(texts, list) or not texts:
        raise InvalidIsolated(f"{key} is {shown(texts)}; it must be a list of texts that is not empty, or left out")
    return tuple(_text(text, f"an item of {key}") for text in texts)


def _text(text: object, what: str) -> str:
    if not isinstance(text, str) or "\0" in text:
        raise InvalidIsolated(f"{what} is {shown(text)}; it must be a text without NUL")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise InvalidIsolated(f"{what} {shown(text)} cannot be a name on a Linux system") from exc
    return text


def _name(value: object, what: str) -> str:
    text = _text(value, what)
    # Four bytes at most for a character: most are too short to be worth counting.
    if len(text) > MAX_PATH_BYTES // 4 and len(text.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise InvalidIsolated(f"{what} {shown(text)} is longer than the {MAX_PATH_BYTES} bytes that Linux allows")
    return text


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise InvalidIsolated(f"{key} is {shown(value)}; it must be a JSON object")
    return value


def _is_int_in(value: object, allowed: range) -> bool:
    return type(value) is int and value in allowed


def _refuse_unknown(keys: Iterable[str], known: frozenset[str], what: str) -> None:
    unknown = sorted(set(keys) - known)
    if unknown:
        raise InvalidIsolated(f"{what} has unknown keys {shown(unknown)}")
