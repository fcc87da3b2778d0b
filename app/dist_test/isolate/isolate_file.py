"""The `.isolate` file, a Python literal that names a test's files and command, and `.isolated.gen.json`.

Files are read through a function that the caller passes; nothing else here does I/O.
"""

import ast
import json
import os.path
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dist_test.errors import InvalidIsolate, shortened, shown

_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_REFERENCE = re.compile(rf"<\(({_NAME})\)")
_KEYS = frozenset({"includes", "variables", "conditions"})
# The last three are what "files" was called before; old files still have them.
_FILE_KEYS = ("files", "isolate_dependency_tracked", "isolate_dependency_untracked", "isolate_dependency_touched")
_VARIABLE_KEYS = frozenset({"command", "read_only", *_FILE_KEYS})
_INTEGER = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, kw_only=True)
class Variables:
    """What replaces <(NAME): path variables first, then extra, then config. Conditions look at config alone.

    Relative values of path variables are relative to the working directory of the command that archives.
    """

    path: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class IsolateFile:
    """What an `.isolate` says once its variables are in: absolute paths, those of directories with a `/` at the end.

    directory: that of the file which gave the command, where the command runs.
    """

    directory: Path
    command: tuple[str, ...]
    files: tuple[str, ...]
    read_only: int | None


@dataclass(frozen=True, kw_only=True)
class ArchiveOptions:
    """The arguments of one archive: an `.isolate`, where to write its `.isolated`, variables, names to leave out.

    blacklist: None for the usual one.
    """

    working_directory: Path
    isolate: Path
    isolated: Path
    variables: Variables
    blacklist: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The name in --dump-json: that of the .isolated file without its last extension."""
        return os.path.splitext(self.isolated.name)[0]  # noqa: PTH122 -- Path.stem differs for names like "a."


@dataclass(frozen=True, kw_only=True)
class _Section:
    """What the variables of one file, or of one condition, say."""

    command: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    read_only: int | None = None


def load_isolate(
    path: Path, variables: Variables, *, working_directory: Path, read: Callable[[Path], str]
) -> IsolateFile:
    """Read an `.isolate` with its includes. The file's own command wins over those of its includes.

    Raises InvalidIsolate; whatever `read` raises passes through.
    """
    sections = list(_load(_normal(path), variables, read))
    table = _Substitutions(variables, working_directory)
    directory, command = next(((d, s.command) for d, s in sections if s.command), (path.parent, ()))
    files = dict.fromkeys(
        _absolute(table.apply(entry, relative_to=base), base) for base, section in sections for entry in section.files
    )
    return IsolateFile(
        directory=_normal(directory),
        command=tuple(table.apply(word, relative_to=directory) for word in command),
        files=tuple(files),
        read_only=next((s.read_only for _, s in sections if s.read_only is not None), None),
    )


def parse_gen_file(content: str) -> ArchiveOptions:
    """Read an `.isolated.gen.json`: {"version": 1, "dir": …, "args": […]}. Raises InvalidIsolate."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise InvalidIsolate(f"not JSON: {exc}") from exc
    if not isinstance(document, dict) or document.get("version") != 1:
        raise InvalidIsolate('it must be a JSON object with "version": 1')
    directory, arguments = document.get("dir"), document.get("args")
    if not isinstance(directory, str) or not os.path.isabs(directory) or not _is_word(directory):  # noqa: PTH117 -- a text
        raise InvalidIsolate(f"dir is {shown(directory)}; it must be an absolute directory")
    return parse_archive_arguments(_texts(arguments, "args"), Path(directory))


def parse_archive_arguments(arguments: Sequence[str], directory: Path) -> ArchiveOptions:
    """Read the arguments of an archive; -i and -s are relative to `directory`. Raises InvalidIsolate.

    Flags have one dash or two, and their values follow after `=` or a space; K=V may be K and V.
    """
    values: dict[str, list[str]] = {"isolate": [], "isolated": [], "blacklist": []}
    pairs: dict[str, dict[str, str]] = {"path-variable": {}, "extra-variable": {}, "config-variable": {}}
    todo = list(arguments)
    while todo:
        flag, value = _take_flag(todo)
        if flag in values:
            values[flag].append(value)
        elif flag in pairs:
            name, equals, text = value.partition("=")
            pairs[flag][_variable_name(name)] = text if equals else _take_value(todo, flag)
        else:
            raise InvalidIsolate(f"args has --{shortened(flag)}, which is not a flag of archive")
    return ArchiveOptions(
        working_directory=directory,
        isolate=directory / _last(values, "isolate"),
        isolated=directory / _last(values, "isolated"),
        variables=Variables(
            path=pairs["path-variable"], extra=pairs["extra-variable"], config=pairs["config-variable"]
        ),
        blacklist=tuple(values["blacklist"]) or None,
    )


class _Substitutions:
    """Replaces <(NAME) in commands and paths."""

    def __init__(self, variables: Variables, working_directory: Path) -> None:
        self._path = {"EXECUTABLE_SUFFIX": "", **variables.path}
        self._others = {**variables.config, **variables.extra}
        self._working_directory = working_directory

    def apply(self, text: str, *, relative_to: Path) -> str:
        """The text with its variables in; relative values of path variables become relative to a directory."""
        return _REFERENCE.sub(lambda match: self._value(match[1], text, relative_to), text)

    def _value(self, name: str, text: str, relative_to: Path) -> str:
        value = self._path.get(name)
        if value is None:
            value = self._others.get(name)
            if value is None:
                raise InvalidIsolate(
                    f"{shown(text)} uses <({shortened(name)}), which is not defined;"
                    f" give --extra-variable {shortened(name)}=VALUE"
                )
            return value
        if not value or os.path.isabs(value):  # noqa: PTH117 -- a text
            return value
        return os.path.relpath(self._working_directory / value, relative_to)


def _load(root: Path, variables: Variables, read: Callable[[Path], str]) -> Iterable[tuple[Path, _Section]]:
    """The sections of a file and of its includes, depth first. What is included by two files says nothing new."""
    # A stack of our own: a chain of includes may be longer than Python's recursion limit.
    done: set[Path] = set()
    including: set[Path] = set()
    stack = [(root, False)]
    while stack:
        path, is_leaving = stack.pop()
        if is_leaving:
            including.discard(path)
            done.add(path)
        elif path in including:
            raise InvalidIsolate(f"{path} includes itself")
        elif path not in done:
            including.add(path)
            document = _parse_literal(read(path), path)
            yield from ((path.parent, section) for section in _sections(document, variables, path))
            includes = _texts(document.get("includes", []), f"includes of {path}")
            stack.append((path, True))
            stack.extend((_normal(path.parent / include), False) for include in reversed(includes))


def _parse_literal(text: str, path: Path) -> dict[str, Any]:
    try:
        # The brackets let the dict stand anywhere on its line; literal_eval runs no code.
        document = ast.literal_eval(f"(\n{text}\n)")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as exc:
        raise InvalidIsolate(f"{path} is not a Python literal: {exc}") from exc
    if not isinstance(document, dict):
        raise InvalidIsolate(f"{path} holds a {type(document).__name__}; it must be one dict")
    _refuse_unknown(document, _KEYS, str(path))
    return document


def _sections(document: Mapping[str, Any], variables: Variables, path: Path) -> Iterable[_Section]:
    yield _section(document.get("variables", {}), f"variables of {path}")
    conditions = document.get("conditions", [])
    if not isinstance(conditions, list):
        raise InvalidIsolate(f"conditions of {path} must be a list")
    for condition in conditions:
        match condition:
            case [str(expression), {"variables": section, **others}] if not others:
                # Read in any case: a mistake should not wait for the configuration that meets it.
                found = _section(section, f"condition {shown(expression)} of {path}")
                if _holds(expression, variables.config, path):
                    yield found
            case _:
                raise InvalidIsolate(
                    f"{path} has the condition {shown(condition)}; write [expression, {{'variables': {{…}}}}]"
                )


def _section(variables: object, what: str) -> _Section:
    if not isinstance(variables, dict):
        raise InvalidIsolate(f"{what} must be a dict")
    _refuse_unknown(variables, _VARIABLE_KEYS, what)
    read_only = variables.get("read_only")
    if read_only is not None and (type(read_only) is not int or read_only not in range(3)):
        raise InvalidIsolate(f"read_only in {what} is {shown(read_only)}; it must be 0, 1 or 2")
    files = [entry for key in _FILE_KEYS for entry in _texts(variables.get(key, []), f"{key} in {what}")]
    for entry in files:
        if not entry or "\\" in entry:
            raise InvalidIsolate(f"{what} names the file {shown(entry)}; write a path with '/'")
    return _Section(
        command=tuple(_texts(variables.get("command", []), f"command in {what}")),
        files=tuple(files),
        read_only=read_only,
    )


def _holds(expression: str, config: Mapping[str, str], path: Path) -> bool:
    try:
        tree = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as exc:
        raise InvalidIsolate(f"{path} has the condition {shown(expression)}: {exc}") from exc
    return _evaluate(tree, config, f"the condition {shown(expression)} of {path}")


def _evaluate(node: ast.expr, config: Mapping[str, str], what: str) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            # A list, so that every name is looked up: one that is missing should not depend on the others' values.
            return all([_evaluate(value, config, what) for value in values])  # noqa: C419
        case ast.BoolOp(op=ast.Or(), values=values):
            return any([_evaluate(value, config, what) for value in values])  # noqa: C419
        case ast.Compare(
            left=ast.Name(id=name), ops=[ast.Eq()], comparators=[ast.Constant(value=str() | int() as value)]
        ):
            if name not in config:
                raise InvalidIsolate(
                    f"{what} uses {shortened(name)}, which is not defined;"
                    f" give --config-variable {shortened(name)}=VALUE"
                )
            return type(value) is not bool and _typed(config[name]) == value
    raise InvalidIsolate(f"{what} may only have NAME == value, and, or, and brackets")


def _typed(text: str) -> str | int:
    return int(text) if _INTEGER.fullmatch(text) else text


def _take_flag(todo: list[str]) -> tuple[str, str]:
    word = todo.pop(0)
    short = {"i": "isolate", "s": "isolated"}
    flag, equals, value = word.lstrip("-").partition("=")
    if not word.startswith("-") or not flag:
        raise InvalidIsolate(f"args has {shown(word)}, which is not a flag of archive")
    flag = short.get(flag, flag)
    return flag, value if equals else _take_value(todo, flag)


def _take_value(todo: list[str], flag: str) -> str:
    if not todo:
        raise InvalidIsolate(f"args ends after --{shortened(flag)}, which needs a value")
    return todo.pop(0)


def _variable_name(name: str) -> str:
    if not re.fullmatch(_NAME, name):
        raise InvalidIsolate(f"{shown(name)} is not the name of a variable; use letters, digits and '_'")
    return name


def _last(values: Mapping[str, list[str]], flag: str) -> str:
    if not values[flag]:
        raise InvalidIsolate(f"args lacks --{shortened(flag)}, which is required")
    return values[flag][-1]


def _texts(value: object, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidIsolate(f"{what} is {shown(value)}; it must be a list of texts")
    for item in value:
        if not _is_word(item):
            raise InvalidIsolate(f"{what} has {shown(item)}, which no file and no argument can be called; take it out")
    return value


def _is_word(text: str) -> bool:
    """Whether the system could be given it. Names that are not UTF-8 are surrogates from U+DC80 on."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _refuse_unknown(keys: Iterable[object], known: frozenset[str], what: str) -> None:
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise InvalidIsolate(f"{what} has the unknown keys {shown(unknown)}; known are {sorted(known)}")


def _absolute(entry: str, base: Path) -> str:
    return str(_normal(base / entry)) + ("/" if entry.endswith("/") else "")


def _normal(path: Path) -> Path:
    # Without looking at the disk: "a/../b" is b, as the archivers before us had it.
    return Path(os.path.normpath(path))
