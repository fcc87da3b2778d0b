"""`run_isolated`: `dist-test run-isolated` under the name that people know from Swarming."""

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from dist_test import __version__
from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.messages import say
from dist_test.errors import DistTestError


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one task, by default as the program's command line says, and exit."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words == ["--version"]:
        click.echo(f"run_isolated, version {__version__}")
        sys.exit(ExitStatus.SUCCESS)
    from dist_test.cli.run_isolated import run_isolated

    try:
        run_isolated.main(words, prog_name="run_isolated")
    except DistTestError as exc:
        say(str(exc))
    sys.exit(ExitStatus.ERROR)


if __name__ == "__main__":
    main()
