"""Read the INI file and the environment into one table of values, collecting every mistake before complaining."""

import configparser
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dist_test.errors import ConfigurationError, shortened, shown
from dist_test.settings.catalog import BY_NAME, CATALOG, SECTIONS, Setting, default_value

SYSTEM_PATH = Path("/etc/dist_test/dist_test.cnf")
MAX_SPACES = 1_000  # in a row: configparser takes the square of their number in steps
MAX_REASON_CHARACTERS = 500  # of configparser's, which repeats names
_SPACES = re.compile(r"[^\S\n]+")


def configuration_path(environ: Mapping[str, str]) -> Path | None:
    """The file to read: $DIST_TEST_CNF, else ~/.dist_test.cnf, else /etc/dist_test/dist_test.cnf, else None.

    Raises ConfigurationError when $DIST_TEST_CNF names a file that is not there.
    """
    if named := environ.get("DIST_TEST_CNF"):
        if not Path(named).is_file():
            raise ConfigurationError(f"DIST_TEST_CNF is {named}, which is not a file; correct or unset the variable")
        return Path(named)
    own = Path(environ.get("HOME", "/")) / ".dist_test.cnf"
    return next((path for path in (own, SYSTEM_PATH) if path.is_file()), None)


class Source:
    """The values of one file and one environment. `problems` grows as values are asked for; `check` raises them all."""

    def __init__(self, path: Path | None, environ: Mapping[str, str]) -> None:
        self.path = path
        self.problems: list[str] = []
        self._texts = {} if path is None else self._read_file(path)
        self._environ = environ
        self._bad: set[str] = set()
        self._values = {setting.name: self._parse(setting) for setting in CATALOG}

    def get(self, name: str) -> Any:
        """The value of `section.key`; None when it is not set and has no default."""
        return self._values[name]

    def require(self, name: str) -> Any:
        """The value of `section.key`; notes a problem when it is not set."""
        value = self._values[name]
        if value is None and name not in self._bad:
            setting = BY_NAME[name]
            where = self.path or "the configuration file (~/.dist_test.cnf)"
            self.problems.append(
                f"{name} is not set; set {setting.key} in section [{setting.section}] of {where},"
                f" or the environment variable {setting.environment}"
            )
        return value

    def check(self) -> None:
        """Raise ConfigurationError with every problem found so far, if there is one."""
        if self.problems:
            raise ConfigurationError("\n".join(self.problems))

    def _read_file(self, path: Path) -> dict[str, str]:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            self.problems.append(f"{path} cannot be read: {_why_unreadable(exc)}")
            return {}
        texts, problems = parse_ini(text, where=str(path))
        self.problems += problems
        return texts

    def _parse(self, setting: Setting) -> Any:
        raw = self._environ.get(setting.environment)
        where = f"environment variable {setting.environment}"
        if raw is None:
            raw = self._texts.get(setting.name)
            where = f"{self.path}: [{setting.section}] {setting.key}"
        try:
            if raw is None or (raw == "" and setting.default is None):
                return default_value(setting)
            return setting.parse(raw)
        except ValueError as exc:
            self._bad.add(setting.name)
            value = "(not shown)" if setting.secret else shown(raw)
            self.problems.append(f"{where} is {value}: {exc}")
            return None


def parse_ini(text: str, *, where: str) -> tuple[dict[str, str], list[str]]:
    """The values by `section.key`, still as text, and what is wrong with the document that messages call `where`."""
    wide = next((found for found in _SPACES.finditer(text) if len(found[0]) > MAX_SPACES), None)
    if wide is not None:
        line = text.count("\n", 0, wide.start()) + 1
        return {}, [f"{where} cannot be read: line {line} has more than {MAX_SPACES} spaces in a row"]
    # Interpolation would trip over the % of passwords and log formats.
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text, source=where)
    except configparser.Error as exc:
        return {}, [f"{where} cannot be read: {_why_unreadable(exc)}"]
    texts = {f"{section}.{key}": value for section in parser.sections() for key, value in parser[section].items()}
    problems = [_unknown(where, section, "") for section in parser.sections() if section not in SECTIONS]
    problems += [
        _unknown(where, *name.split(".", 1)) for name in texts if name.split(".")[0] in SECTIONS and name not in BY_NAME
    ]
    return texts, problems


def _unknown(where: str, section: str, key: str) -> str:
    if not key:
        near = difflib.get_close_matches(section, SECTIONS, n=1)
        return f"{where}: section [{shortened(section)}] is not known{_hint(near)}"
    near = difflib.get_close_matches(key, [s.key for s in CATALOG if s.section == section], n=1)
    return f"{where}: [{section}] {shortened(key)} is not known{_hint(near)}"


def _why_unreadable(exc: Exception) -> str:
    # configparser's own words for these two repeat the line, which may hold a password.
    if isinstance(exc, configparser.MissingSectionHeaderError):
        return f"line {exc.lineno} stands before the first [section]"
    if isinstance(exc, configparser.ParsingError):
        lines = ", ".join(str(number) for number, _ in exc.errors)
        return f"neither [section] nor KEY = VALUE: line {shortened(lines)}"
    return " ".join(str(exc).split())[:MAX_REASON_CHARACTERS]


def _hint(near: list[str]) -> str:
    return f"; did you mean {near[0]}?" if near else "; remove it, or see docs/reference/settings.md"
