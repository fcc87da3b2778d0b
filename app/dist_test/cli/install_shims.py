"""`dist-test install-shims`: the programs that scripts written for Cloudera's dist_test call, by their paths."""

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from dist_test.cli.messages import say
from dist_test.errors import ConfigurationError

MARK = "# Written by dist-test install-shims."
# By path below the directory: what it runs. Kudu calls bin/client and isolate, people the others.
SHIMS: Mapping[str, str] = {
    "bin/client": "dist_test.cli.shims_client",
    "bin/isolate": "dist_test.cli.isolate_program",
    "bin/isolate.py": "dist_test.cli.isolate_program",
    "bin/run_isolated": "dist_test.cli.run_isolated_program",
    "bin/run_isolated.py": "dist_test.cli.run_isolated_program",
}


@click.command("install-shims")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Replace files that are not shims too.")
def install_shims(directory: Path, *, force: bool) -> None:
    """Write the programs that build scripts of Cloudera's dist_test call: DIR/bin/client, isolate and run_isolated.

    DIR becomes $DIST_TEST_HOME; standard output says what to export. The files call the Python that runs this command
    by its absolute path: run it again when that has moved. A file that it did not write is never replaced.
    """
    root = directory.absolute()
    wanted = {root / path: shim_text(module, sys.executable) for path, module in SHIMS.items()}
    if not force:
        _refuse_strangers(wanted)
    for path, text in wanted.items():
        say(f"{'wrote' if _install(path, text) else 'unchanged:'} {path}")
    click.echo(f"export DIST_TEST_HOME={shlex.quote(str(root))}")
    click.echo(f'export PATH={shlex.quote(str(root / "bin"))}:"$PATH"')


def shim_text(module: str, python: str) -> str:
    """A shell script that runs a module of ours.

    -P, because scripts call it from directories that have a dist_test.py of their own.
    """
    return f"""\
#!/bin/sh
{MARK} Run that again instead of changing this.
python={shlex.quote(python)}
if ! [ -x "$python" ]; then
    echo "dist-test: $python is gone; run dist-test install-shims again, from where dist_test is now" >&2
    exit 1
fi
exec "$python" -P -m {module} "$@"
"""


def _refuse_strangers(paths: Mapping[Path, str]) -> None:
    """Raise ConfigurationError, before anything is changed, for what others have put in the place of a shim."""
    strangers = [str(path) for path in paths if os.path.lexists(path) and not _is_ours(path)]
    if strangers:
        raise ConfigurationError(
            f"{', '.join(strangers)}: not written by install-shims; choose another directory, or replace with --force"
        )


def _is_ours(path: Path) -> bool:
    try:
        return not path.is_symlink() and f"\n{MARK}" in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _install(path: Path, text: str) -> bool:
    """Write the file if it is another; say whether. It appears whole or not at all. Raises ConfigurationError."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if _is_ours(path) and path.read_text(encoding="utf-8") == text and os.access(path, os.X_OK):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_text(text, encoding="utf-8")
            aside.chmod(0o755)
            aside.rename(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be written: {exc.strerror}; choose another directory") from exc
    return True
