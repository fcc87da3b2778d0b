"""`run_isolated`: `dist-test run-isolated` under the name that people know from Swarming."""

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from dist_test import __version__
from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.program import run


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one task, by default as the program's command line says, and exit."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words == ["--version"]:
        click.echo(f"run_isolated, version {__version__}")
        sys.exit(ExitStatus.SUCCESS)
    from dist_test.cli.run_isolated import run_isolated

    run(run_isolated.main, words, "run_isolated")


if __name__ == "__main__":
    main()
