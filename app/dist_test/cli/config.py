"""`dist-test config`: the settings in force, and where each comes from."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import click

from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.messages import say
from dist_test.settings import configuration_path, parse_ini
from dist_test.settings.catalog import CATALOG, Setting
from dist_test.settings.source import Source

_CLIENT_SETTINGS = frozenset(
    (
        "dist_test.master",
        "dist_test.user",
        "dist_test.password",
        "dist_test.url_timeout",
        "dist_test.job_path",
        "isolate.server",
        "isolate.namespace",
        "isolate.cache_dir",
        "isolate.cache_max_bytes",
        "isolate.cache_min_free_bytes",
        "isolate.cache_max_items",
    )
)


@click.command()
@click.option("--all", "show_all", is_flag=True, help="Those of the services too, where they have their defaults.")
def config(*, show_all: bool) -> NoReturn:
    """Show the settings in force and where each comes from: the environment, the file or the default.

    Exits 1, and says why, when a client could not work with them.
    """
    path = configuration_path(os.environ)
    source = Source(path, os.environ)
    click.echo(f"# file: {path or 'none (~/.dist_test.cnf and /etc/dist_test/dist_test.cnf are not there)'}")
    click.echo("\n".join(settings_lines(_texts(path), os.environ, show_all=show_all)))
    source.require("dist_test.master")
    for problem in source.problems:
        say(problem)
    raise SystemExit(ExitStatus.ERROR if source.problems else ExitStatus.SUCCESS)


def settings_lines(texts: Mapping[str, str], environ: Mapping[str, str], *, show_all: bool) -> Iterator[str]:
    """`section.key = value  # origin` for each setting; `texts` is the file's content by `section.key`."""
    for setting in CATALOG:
        text, origin = _origin(setting, texts, environ)
        if show_all or origin != "default" or setting.name in _CLIENT_SETTINGS:
            shown = f" {_shown(setting, text)}" if text else ""
            yield f"{setting.name} ={shown}  # {origin if text is not None else 'not set'}"


def _origin(setting: Setting, texts: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str | None, str]:
    if setting.environment in environ:
        return environ[setting.environment], f"environment variable {setting.environment}"
    if setting.name in texts:
        return texts[setting.name], "file"
    return setting.default, "default"


def _shown(setting: Setting, text: str) -> str:
    return "(hidden)" if setting.secret else text


def _texts(path: Path | None) -> dict[str, str]:
    """The file's settings as they stand; none when it can't be read, which Source reports."""
    try:
        texts, _ = parse_ini(path.read_text(encoding="utf-8") if path else "", where="")
    except (OSError, UnicodeDecodeError):
        return {}
    return texts
