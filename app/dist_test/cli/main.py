"""The `dist-test` program: finds the command, and turns errors into one line and an exit code.

A command's module is imported when the command is used, so that `dist-test --help` and tab completion stay quick.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import click

from dist_test import __version__
from dist_test.cli.program import run


@dataclass(frozen=True, kw_only=True)
class LazyCommand:
    """Where a command is, `module:attribute`, and what `dist-test --help` says about it."""

    target: str
    help: str


COMMANDS = {
    "isolate": LazyCommand(
        target="dist_test.cli.isolate:isolate", help="Package a test's files, or fetch such a package."
    ),
    "submit": LazyCommand(target="dist_test.cli.submit:submit", help="Submit a job and wait for its end."),
    "watch": LazyCommand(target="dist_test.cli.watch:watch", help="Show a job's progress until its end."),
    "status": LazyCommand(target="dist_test.cli.status:status", help="Show one job, or the latest ones."),
    "fetch": LazyCommand(target="dist_test.cli.fetch:fetch", help="Download a job's logs and artifacts."),
    "logs": LazyCommand(target="dist_test.cli.logs:logs", help="Print what a task has written, or follow it."),
    "cancel": LazyCommand(target="dist_test.cli.cancel:cancel", help="Cancel a job and stop its running tasks."),
    "rerun": LazyCommand(target="dist_test.cli.rerun:rerun", help="Run again what failed in a job."),
    "run-isolated": LazyCommand(
        target="dist_test.cli.run_isolated:run_isolated", help="Run one task on this machine, as a slave would."
    ),
    "install-shims": LazyCommand(
        target="dist_test.cli.install_shims:install_shims", help="Write the programs that scripts of the original call."
    ),
    "config": LazyCommand(target="dist_test.cli.config:config", help="Show the settings and where each comes from."),
    "local": LazyCommand(target="dist_test.local.command:local", help="Run a whole cluster on this machine."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.help) for name, command in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dist-test")
def dist_test() -> None:
    """Run a project's whole test suite on a cluster.

    Package each test with `isolate`, describe the job in a JSON file, `submit` it and see what comes of it.
    `dist-test config` shows which master and isolate server are used. Exit codes: 0 all is well, 1 an error,
    2 wrong usage, 88 the job ended with a failed task or was canceled.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command, by default the one on the program's command line, and exit."""
    run(dist_test.main, arguments, "dist-test")


if __name__ == "__main__":
    main()
