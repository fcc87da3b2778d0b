"""`isolate`: the commands of `dist-test isolate` under the bare name that build scripts call."""

from collections.abc import Sequence
from typing import NoReturn

import click

from dist_test import __version__
from dist_test.cli.isolate import isolate
from dist_test.cli.program import run


@click.group(
    "isolate", commands=dict(isolate.commands), context_settings={"help_option_names": ["-h", "-help", "--help"]}
)
@click.version_option(__version__, "-version", "--version", prog_name="isolate")
def program() -> None:
    """Package a test's files and command for the cluster, or fetch such a package.

    Flags have one dash or two, and their values follow after = or a space. Exits 0, 1 after an error, 2 on wrong usage.
    """


@program.command("help")
@click.argument("command_name", metavar="[COMMAND]", required=False)
@click.pass_context
def show_help(context: click.Context, command_name: str | None) -> None:
    """Show this, or what a command takes."""
    group = context.find_root()
    if command_name is None:
        click.echo(group.get_help())
        return
    command = program.get_command(group, command_name)
    if command is None:
        raise click.UsageError(f"No such command {command_name!r}.", group)
    click.echo(command.get_help(click.Context(command, info_name=command_name, parent=group)))


@program.command()
def version() -> None:
    """Show the version."""
    click.echo(f"isolate, version {__version__}")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command, by default the one on the program's command line, and exit."""
    run(program.main, arguments, "isolate")


if __name__ == "__main__":
    main()
