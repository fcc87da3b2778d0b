"""Write the pages of the reference that the code knows best: settings, schema, rights, commands, inventory, HTTP API.

docs/reference/generate.py            write them; `make docs` does
docs/reference/generate.py --check    name those that are out of date, and exit 1 if there is one
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from api_page import api_parts
from inventory_page import inventory_parts
from sqlalchemy import Column, Table
from sqlalchemy.dialects import mysql

from dist_test.cli.main import dist_test
from dist_test.errors import ConfigurationError
from dist_test.settings import records, values
from dist_test.settings.catalog import CATALOG, Setting
from dist_test.settings.source import Source
from dist_test.storage.rights import RIGHTS, Rights
from dist_test.storage.schema import metadata
from dist_test_autoscale import catalog as autoscaler

HERE = Path(__file__).parent
NOTICE = "<!-- Written by generate.py (`make docs`). Changes made here are lost. -->"
# http-api.md is written by both: what is between these two is ours.
BEGINNING = "<!-- Written by generate.py (`make docs`) from here to the next such line. -->"
END = "<!-- Written by people again. -->"
WIDTH = 100
# What depends on the machine that the page is written on.
COMPUTED_DEFAULTS = {"slave.id": "the host name"}
LOADERS: tuple[tuple[str, Callable[[Mapping[str, str]], object], Mapping[str, str]], ...] = (
    ("client", records.load_client_settings, {}),
    ("master", records.load_master_settings, {}),
    ("slave", records.load_slave_settings, {}),
    ("autoscaler", records.load_mysql_settings, {}),
    ("autoscaler", records.load_beanstalk_settings, {}),
    ("isolate server", records.load_isolate_settings, {}),
    ("isolate server with S3", records.load_isolate_settings, {"DIST_TEST_ISOLATE_SERVER_STORE": "s3:bucket"}),
)
SERVICES = (
    ("dist-test-master",),
    ("dist-test-master", "serve"),
    ("dist-test-master", "migrate"),
    ("dist-test-master", "check"),
    ("dist-test-master", "audit"),
    ("dist-test-master", "promote"),
    ("dist-test-master", "prune"),
    ("dist-test-master", "slaves"),
    ("dist-test-master", "drain"),
    ("dist-test-master", "resume"),
    ("dist-test-master", "weight"),
    ("dist-test-slave",),
    ("dist-test-slave", "configure"),
    ("dist-test-slave", "check"),
    ("dist-test-isolate",),
    ("dist-test-isolate", "prune"),
    ("dist-test-autoscale",),
    *(("dist-test-autoscale", name) for name in ("run", "plan", "status", "pin", "unpin", "validate-config")),
)

SETTINGS_INTRODUCTION = """\
# Settings

One INI file serves all programs: the one that `DIST_TEST_CNF` names, else `~/.dist_test.cnf`, else
`/etc/dist_test/dist_test.cnf`. An environment variable wins over the file. A program that finds an unknown section or
key, or a bad value, lists all of them and does not start. `dist-test config` shows what is in force and where each
value comes from; `--all` shows the services' settings too.

A program in **bold** does not start without the setting."""

SCHEMA_INTRODUCTION = """\
# Database schema

`dist-test-master migrate` makes and changes these tables; services refuse a schema that does not serve them. Times are
UTC with microseconds, by the database's own clock. The types are those of the queries; `SHOW CREATE TABLE` tells them
to the bit, and the indexes. Columns of the primary key are in **bold**. Pages and programs read these tables at their
own risk: they may change with any version, unlike the [HTTP API](http-api.md). Which program may do what on them is in
[rights.md](rights.md)."""

AUTOSCALER_INTRODUCTION = """\
# Settings of the autoscaler

`/etc/dist_test/autoscale.toml`, or the file that `--config` names. `dist-test-autoscale validate-config` lists all that
is wrong with it; the service does not start with unknown or contradictory keys. How to set one up is in
[autoscale-on-gce.md](../how-to/autoscale-on-gce.md), what the numbers do in
[autoscaling.md](../explanation/autoscaling.md).

A key in **bold** has to be there, if its table is. Without the table `[autoscale.queue]` or `[autoscale.mysql]`, the
service reads [the common settings](settings.md) instead, sections `[beanstalk]` and `[mysql]`."""

RIGHTS_INTRODUCTION = """\
# Database rights

What the account of each program may do on which table, and nothing else: `dist-test-master migrate --grant` gives these
rights and takes all others on the database away. A right on some columns names them.

The account that migrates is none of these. It owns the database (`ALL`, `WITH GRANT OPTION`) and may read three tables
of the server's database `mysql`, to see what the accounts have: `db`, `tables_priv` and `columns_priv`. These hold no
passwords. Rights on all databases and roles are not looked at: give the accounts none."""

COMMANDS_INTRODUCTION = """\
# Command line

What each program says to `--help`. Exit codes are in [exit-codes.md](exit-codes.md), settings in
[settings.md](settings.md)."""


def main(arguments: list[str]) -> int:
    """Write the pages, or check them; give the exit status."""
    os.environ["COLUMNS"] = str(WIDTH)  # argparse wraps to the terminal otherwise
    directory = Path(arguments[arguments.index("--output") + 1]) if "--output" in arguments else HERE
    pages = {
        "settings.md": settings_page,
        "autoscaler-settings.md": autoscaler_page,
        "schema.md": schema_page,
        "rights.md": rights_page,
        "command-line.md": command_line_page,
        "inventory.md": inventory_page,
        "http-api.md": http_api_page,
    }
    stale = [directory / name for name, page in pages.items() if _update(directory / name, page(), arguments)]
    if "--check" in arguments and stale:
        sys.stdout.write(f"out of date, run make docs: {', '.join(map(str, stale))}\n")
        return 1
    return 0


def _update(path: Path, text: str, arguments: list[str]) -> bool:
    """Write the page unless only checking; say whether it was out of date."""
    is_stale = not path.exists() or path.read_text(encoding="utf-8") != text
    if is_stale and "--check" not in arguments:
        path.write_text(text, encoding="utf-8")
    return is_stale


def settings_page() -> str:
    """Every setting of the catalog, by section."""
    readers = _readers()
    parts = [NOTICE, SETTINGS_INTRODUCTION, "\n".join(_kinds_of_value())]
    for section in dict.fromkeys(setting.section for setting in CATALOG):
        parts.append(f"## [{section}]")
        rows = [_setting_row(setting, readers) for setting in CATALOG if setting.section == section]
        parts.append(_table(("key", "value", "default", "environment variable", "read by", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _setting_row(setting: Setting, readers: Mapping[str, Mapping[str, bool]]) -> tuple[str, ...]:
    default = COMPUTED_DEFAULTS.get(setting.name) or (
        f"`{setting.default}`" if setting.default is not None else "not set"
    )
    who = [f"**{name}**" if must else name for name, must in readers.get(setting.name, {}).items()]
    return (
        f"`{setting.key}`",
        _kind(setting),
        "empty" if default == "``" else default,
        f"`{setting.environment}`",
        ", ".join(who) or "nobody",
        setting.help,
    )


def _kind(setting: Setting) -> str:
    parser: Any = setting.parse
    if hasattr(values, parser.__name__):
        return str(parser.__name__).replace("_", " ")
    try:  # integer(low, high) makes a parser each; its complaint has the range
        parser("")
    except ValueError as exc:
        return str(exc).removeprefix("give ").replace("a whole number from ", "")
    raise ValueError(f"no words for the values of {setting.name}")


def _kinds_of_value() -> Iterator[str]:
    yield "Kinds of value:\n"
    parsers: list[Any] = [setting.parse for setting in CATALOG]
    for name in sorted({parser.__name__ for parser in parsers if hasattr(values, parser.__name__)}):
        yield f"- {name.replace('_', ' ')}: {getattr(values, name).__doc__}"
    yield "- a range, such as 1 to 64: a whole number in it."


def _readers() -> dict[str, dict[str, bool]]:
    """By setting: the programs that read it, and whether they stop without it."""
    found: dict[str, dict[str, bool]] = {}
    with tempfile.NamedTemporaryFile() as empty:
        for program, load, environ in LOADERS:
            for name, is_required in _asked(load, {"DIST_TEST_CNF": empty.name, **environ}).items():
                if not program.startswith("isolate server with") or "isolate server" not in found.get(name, {}):
                    found.setdefault(name, {})[program] = is_required
    return found


def _asked(load: Callable[[Mapping[str, str]], object], environ: Mapping[str, str]) -> dict[str, bool]:
    """The settings that a program asks for, and whether it requires them."""
    asked: dict[str, bool] = {}

    class Recorder(Source):
        def get(self, name: str) -> Any:
            asked.setdefault(name, False)
            return super().get(name)

        def require(self, name: str) -> Any:
            asked[name] = True
            return super().require(name)

    # The loaders look the class up in their module; nobody else runs in this process.
    vars(records)["Source"] = Recorder
    try:
        load(environ)
    except ConfigurationError:
        pass  # what is missing is what we came to see
    finally:
        vars(records)["Source"] = Source
    return asked


def autoscaler_page() -> str:
    """Every key of the autoscaler's file, by table."""
    parts = [NOTICE, AUTOSCALER_INTRODUCTION]
    for section in autoscaler.SECTIONS:
        path = ".".join(filter(None, ("autoscale", section)))
        parts.append(f"## [[{path}]], once for each group" if section == "group" else f"## [{path}]")
        rows = [_autoscaler_row(key) for key in autoscaler.keys_of(section)]
        parts.append(_table(("key", "value", "default", "meaning"), rows))
    return "\n\n".join(parts) + "\n"


def _autoscaler_row(key: autoscaler.Key) -> tuple[str, ...]:
    default = "not set" if key.default is None else f"`{json.dumps(key.default)}`"
    name = f"**`{key.name}`**" if key.needed else f"`{key.name}`"
    return (name, _kind_of_key(key), default, key.help)


def _kind_of_key(key: autoscaler.Key) -> str:
    """What the parser's own complaint asks for."""
    try:
        key.parse(object())
    except ValueError as exc:
        return str(exc).removeprefix("give ").partition(", without")[0]
    raise ValueError(f"no words for the values of {key.name}")


def schema_page() -> str:
    """Every table and column, with the words of schema.toml."""
    words = tomllib.loads((HERE / "schema.toml").read_text(encoding="utf-8"))
    tables = {name: {column.name for column in table.columns} for name, table in metadata.tables.items()}
    _refuse_mismatch(tables, words)
    parts = [NOTICE, SCHEMA_INTRODUCTION]
    for name in words:
        parts += [f"## {name}", words[name]["about"], _table_of(metadata.tables[name], words[name])]
    return "\n\n".join(parts) + "\n"


def _refuse_mismatch(tables: Mapping[str, set[str]], words: Mapping[str, Mapping[str, str]]) -> None:
    told = {name: set(columns) - {"about"} for name, columns in words.items()}
    if told != tables:
        differing = {name: told.get(name, set()) ^ tables.get(name, set()) for name in told.keys() | tables.keys()}
        raise ValueError(f"schema.toml and storage/schema.py differ: { {n: c for n, c in differing.items() if c} }")


def _table_of(table: Table, words: Mapping[str, str]) -> str:
    return _table(("column", "type", "meaning"), [_column_row(column, words) for column in table.columns])


def _column_row(column: Column[Any], words: Mapping[str, str]) -> tuple[str, ...]:
    name = f"**`{column.name}`**" if column.primary_key else f"`{column.name}`"
    return (name, column.type.compile(dialect=mysql.dialect()), words[column.name])


def rights_page() -> str:
    """What each program's account may do."""
    parts = [NOTICE, RIGHTS_INTRODUCTION]
    for program, rights in RIGHTS.items():
        rows = [(f"`{table}`", _privileges(table, rights)) for table in sorted({right.table for right in rights})]
        parts += [f"## {program}", _table(("table", "may"), rows)]
    return "\n\n".join(parts) + "\n"


def _privileges(table: str, rights: Rights) -> str:
    """The privileges on a table, those on the whole of it first."""
    told = []
    for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        columns = sorted(right.column for right in rights if right[:2] == (table, privilege))
        if columns:
            named = ", ".join(f"`{column}`" for column in columns)
            told.append(privilege if columns == [""] else f"{privilege} of {named}")
    return "; ".join(told)


def command_line_page() -> str:
    """The help of every command."""
    parts = [NOTICE, COMMANDS_INTRODUCTION, *_helps(dist_test, ("dist-test",), None)]
    for words in SERVICES:
        parts += [f"## {' '.join(words)}", _fenced(_help_of_service(words))]
    return "\n\n".join(parts) + "\n"


def inventory_page() -> str:
    """Groups, and every variable of the roles."""
    return "\n\n".join([NOTICE, *inventory_parts()]) + "\n"


def http_api_page() -> str:
    """What people wrote, around what the description of the API knows."""
    before, beginning, rest = (HERE / "http-api.md").read_text(encoding="utf-8").partition(BEGINNING)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"http-api.md has no line {BEGINNING if not beginning else END}")
    return before + "\n\n".join([beginning, *api_parts(), end]) + after


def _helps(command: click.Command, words: tuple[str, ...], parent: click.Context | None) -> Iterator[str]:
    context = click.Context(
        command, info_name=words[-1], parent=parent, terminal_width=WIDTH, max_content_width=WIDTH,
        **command.context_settings,
    )  # fmt: skip
    yield f"## {' '.join(words)}"
    yield _fenced(command.get_help(context))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None  # the group has just named it
            yield from _helps(below, (*words, name), context)


def _help_of_service(words: tuple[str, ...]) -> str:
    program = Path(sys.executable).with_name(words[0])
    done = subprocess.run([program, *words[1:], "--help"], check=True, capture_output=True, text=True)
    return done.stdout


def _fenced(text: str) -> str:
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return "\n".join(["```text", *lines, "```"])


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, ("---",) * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
