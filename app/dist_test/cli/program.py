"""How a command is run as a whole program: what goes wrong becomes one line and an exit code."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from dist_test.cli.exit_status import ExitStatus
from dist_test.cli.messages import say
from dist_test.errors import DistTestError


def run(main: Callable[..., Any], arguments: Sequence[str] | None, name: str) -> NoReturn:
    """Call a command's `main`, by default with the program's own command line, and exit."""
    try:
        try:
            main(arguments, prog_name=name)
        finally:
            sys.stdout.flush()
    except DistTestError as exc:
        say(str(exc))
    except OSError as exc:
        # Such as a full disk below what we print to. Python would say so once more at its end.
        _forget_stdout()
        say(str(exc))
    sys.exit(ExitStatus.ERROR)


def _forget_stdout() -> None:
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - a device, not a path of ours
        os.dup2(nothing.fileno(), 1)
