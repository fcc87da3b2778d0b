"""Commands about a host that are given on another one, which --limit may leave out."""

import shlex
import sys
from collections.abc import Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.exceptions import OperationError
from pyinfra.context import host
from pyinfra.operations import python

_PROGRAM = ("env", "DIST_TEST_CNF=/etc/dist_test/master.cnf", "/opt/dist_test/current/bin/dist-test-master")


def on_a_master(name: str, words: Sequence[str]) -> None:
    """Run `dist-test-master WORDS` on the first master, and print what it says."""
    python.call(name=name, function=_run, words=list(words))


def _run(words: list[str]) -> None:
    master = host.inventory.get_group("masters")[0]
    master.connect(raise_exceptions=True)
    arguments = {"_sudo": True} if master.data.get("_sudo") else {}
    succeeded, output = master.run_shell_command(StringCommand(shlex.join([*_PROGRAM, *words])), **arguments)
    sys.stdout.write(f"{output.output}\n")
    if not succeeded:
        raise OperationError(f"`dist-test-master {' '.join(words)}` failed on {master.name}")
