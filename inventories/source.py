"""Read the files of an inventory as text: what stands in them, on which line, and what is wrong with them as files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from inventories.model import OPTIONS_OF_PLUGIN, Entry, GroupUse, Mistake, Place

VAULT_HEADER = "$ANSIBLE_VAULT"
EXTENSIONS = ("", ".yml", ".yaml", ".json")
GROUP_KEYS = ("hosts", "vars", "children")
# Turns the text of an encrypted file into YAML; raises VaultLocked.
Decrypt = Callable[[str, Path], str]


class VaultLocked(Exception):
    """An encrypted file cannot be read: no password was given, or a wrong one."""


class Encrypted(str):
    """A single value that Ansible Vault has encrypted in place (`!vault`)."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What the files say. `is_complete`: every one of them could be read."""

    entries: tuple[Entry, ...] = ()
    uses: tuple[GroupUse, ...] = ()
    host_places: dict[str, Place] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    plugin: str | None = None
    is_complete: bool = True


class _Loader(yaml.SafeLoader):
    """YAML as Ansible reads it, with its tags."""


_Loader.add_constructor("!vault", lambda _, node: Encrypted(node.value))
_Loader.add_constructor("!unsafe", lambda _, node: str(node.value))


class Reader:
    """Collects what the files of one directory say; `read` is called once."""

    def __init__(self, directory: Path, decrypt: Decrypt) -> None:
        self.directory = directory
        self.decrypt = decrypt
        self.entries: list[Entry] = []
        self.uses: list[GroupUse] = []
        self.host_places: dict[str, Place] = {}
        self.mistakes: list[Mistake] = []
        self.plugin: str | None = None
        self.is_complete = True

    def read(self) -> Source:
        self._read_hosts(self.directory / "hosts.yml")
        for name in ("group_vars", "host_vars"):
            self._read_variables(self.directory / name, is_host=name == "host_vars")
        return Source(
            entries=tuple(self.entries),
            uses=tuple(self.uses),
            host_places=self.host_places,
            mistakes=tuple(self.mistakes),
            plugin=self.plugin,
            is_complete=self.is_complete,
        )

    def _blame(self, place: Place, key: str, wrong: str, instead: str) -> None:
        self.mistakes.append(Mistake(place=place, key=key, wrong=wrong, instead=instead))

    def _read_hosts(self, path: Path) -> None:
        if not path.is_file():
            self.is_complete = False
            self._blame(Place(path=path), "hosts.yml", "there is no such file", "copy inventories/example and edit it")
            return
        pairs = list(self._pairs(self._compose(path), path))
        self.plugin = next((str(node.value) for key, node in pairs if key.value == "plugin"), None)
        for key, node in pairs:
            if self.plugin and key.value == self.plugin:
                self._read_options(path, node)
            elif key.value != "plugin":
                self._read_group(path, key, node, parent=None)

    def _read_options(self, path: Path, node: yaml.Node) -> None:
        """The options of an inventory plugin stand below its own name. They are entries of no group."""
        for key, value in self._pairs(node, path):
            self._add_entry(path, key, value, scope=OPTIONS_OF_PLUGIN, is_inline=True)

    def _read_group(self, path: Path, key: yaml.Node, node: yaml.Node, parent: str | None) -> None:
        group = str(key.value)
        self.uses.append(GroupUse(name=group, place=_place(path, key), parent=parent))
        for section, body in self._pairs(node, path):
            if section.value not in GROUP_KEYS:
                instead = f"only {', '.join(GROUP_KEYS)} belong here: put groups below children"
                self._blame(_place(path, section), section.value, f"group {group} cannot hold this", instead)
                continue
            for inner, value in self._pairs(body, path):
                self._read_member(path, group, section.value, inner, value)

    def _read_member(self, path: Path, group: str, section: str, key: yaml.Node, node: yaml.Node) -> None:
        if section == "children":
            self._read_group(path, key, node, parent=group)
        elif section == "vars":
            self._add_entry(path, key, node, scope=group, is_inline=True)
        else:
            self.host_places.setdefault(str(key.value), _place(path, key))
            for name, value in self._pairs(node, path):
                self._add_entry(path, name, value, scope=str(key.value), is_host=True, is_inline=True)

    def _read_variables(self, directory: Path, *, is_host: bool) -> None:
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            if path.name.startswith(".") or path.suffix not in EXTENSIONS:
                continue
            scope = path.name if path.is_dir() else path.name.removesuffix(path.suffix)
            if path.is_file() and path.suffix and path.with_suffix("").is_dir():
                wrong = f"Ansible does not read it, because the directory {path.with_suffix('').name}/ is beside it"
                self._blame(Place(path=path), scope, wrong, "move it into that directory")
                continue
            if not is_host:
                self.uses.append(GroupUse(name=scope, place=Place(path=path), is_file=True))
            for file in _files_below(path):
                self._read_file(file, scope, is_host=is_host)

    def _read_file(self, path: Path, scope: str, *, is_host: bool) -> None:
        for key, node in self._pairs(self._compose(path), path):
            self._add_entry(path, key, node, scope=scope, is_host=is_host)

    def _add_entry(self, path: Path, key: yaml.Node, node: yaml.Node, **where: Any) -> None:
        value = _construct(node)
        self._find_duplicates(node, path)
        self.entries.append(Entry(name=str(key.value), value=value, place=_place(path, key), **where))

    def _find_duplicates(self, node: yaml.Node, path: Path) -> None:
        if isinstance(node, yaml.MappingNode):
            for _, inner in self._pairs(node, path):
                self._find_duplicates(inner, path)
        elif isinstance(node, yaml.SequenceNode):
            for inner in node.value:
                self._find_duplicates(inner, path)

    def _pairs(self, node: yaml.Node | None, path: Path) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Keys and values of a mapping; complains about keys that come twice, and about what is no mapping."""
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
            return
        if not isinstance(node, yaml.MappingNode):
            self._blame(_place(path, node), _shown(node), "this is no mapping", "write `name: value` lines here")
            return
        seen: dict[str, int] = {}
        for key, value in node.value:
            if str(key.value) in seen:
                wrong = f"it stands on line {seen[str(key.value)]} already, and the last one wins"
                self._blame(_place(path, key), str(key.value), wrong, "keep one")
            seen[str(key.value)] = key.start_mark.line + 1
            yield key, value

    def _compose(self, path: Path) -> yaml.Node | None:
        """The file as nodes; None when it is empty, or cannot be read and has been complained about."""
        try:
            text = path.read_text(encoding="utf-8")
            if text.startswith(VAULT_HEADER):
                text = self.decrypt(text, path)
            return yaml.compose(text, Loader=_Loader)
        except VaultLocked as exc:
            self._blame(Place(path=path), path.name, *_locked(exc))
        except yaml.MarkedYAMLError as exc:
            self._blame(*_yaml_mistake(path, exc))
        except (UnicodeDecodeError, yaml.YAMLError) as exc:
            self._blame(Place(path=path), path.name, f"not readable as text ({exc})", "save it as UTF-8")
        self.is_complete = False
        return None


def _construct(node: yaml.Node) -> Any:
    loader = _Loader("")
    return loader.construct_document(node)


def _files_below(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for inner in sorted(path.iterdir()):
        is_read = not inner.name.startswith(".") and not inner.name.endswith("~")
        if is_read and (inner.suffix in EXTENSIONS if inner.is_file() else not inner.suffix):
            yield from _files_below(inner)


def _place(path: Path, node: yaml.Node) -> Place:
    return Place(path=path, line=node.start_mark.line + 1)


def _shown(node: yaml.Node) -> str:
    return str(node.value)[:40] if isinstance(node, yaml.ScalarNode) else "list"


def _locked(exc: VaultLocked) -> tuple[str, str]:
    instead = "name the file that holds the vault's password: export ANSIBLE_VAULT_PASSWORD_FILE=PATH"
    return f"the vault cannot be opened ({exc})", instead


def _yaml_mistake(path: Path, exc: yaml.MarkedYAMLError) -> tuple[Place, str, str, str]:
    mark = exc.problem_mark or exc.context_mark
    line = mark.line + 1 if mark else 1
    if "'\\t'" in str(exc.problem):
        return Place(path=path, line=line), path.name, "there is a tab before the text", "indent with spaces"
    instead = "mend the indentation, or quote values that hold : # { [ or begin with @ % *"
    return Place(path=path, line=line), path.name, f"no valid YAML ({exc.problem})", instead
