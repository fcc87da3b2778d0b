"""The commands under `dist-test local`; what takes long to import is imported by the command that needs it."""

import os
import shlex
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from dist_test.errors import DistTestError

_P = ParamSpec("_P")


@click.group()
def local() -> None:
    """A whole cluster on this machine: database, queue, S3, isolate server, master and slaves."""


def _explain(command: Callable[_P, None]) -> Callable[_P, None]:
    """Print our errors as one message and exit 1."""

    @wraps(command)
    def explained(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except DistTestError as error:
            click.echo(f"dist-test: {error}", err=True)
            sys.exit(1)

    return explained


def _state_dir(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    from dist_test.local.configuration import default_state_dir

    return (value or default_state_dir(os.environ)).absolute()


_state_option = click.option(
    "--state",
    "state_dir",
    type=click.Path(path_type=Path, file_okay=False),
    callback=_state_dir,
    help="Directory that holds everything of the cluster; default ~/.local/state/dist_test/local"
    " (for root /var/lib/dist_test/local).",
)
_slaves_option = click.option("--slaves", type=click.IntRange(1, 64), default=2, show_default=True, help="Slaves.")
_slots_option = click.option(
    "--slots", type=click.IntRange(1, 64), default=1, show_default=True, help="Tasks at the same time on each slave."
)


@local.command()
@_slaves_option
@_slots_option
@_state_option
@click.option("--detach", is_flag=True, help="Return once the cluster is ready; `down` ends it.")
@_explain
def up(slaves: int, slots: int, state_dir: Path, detach: bool) -> None:
    """Bring a cluster up and keep it up until Ctrl-C. The data of an earlier one in the same directory is kept."""
    if detach:
        from dist_test.local import background
        from dist_test.local.configuration import env_line

        status = background.start(state_dir, slaves=slaves, slots=slots, dies_with_us=False)
        click.echo(f"up in {state_dir}: {status.master_url}")
        click.echo(f"to use it in this shell: {env_line(state_dir)}")
        return
    from dist_test.local.cluster import Cluster

    Cluster(state_dir, slaves=slaves, slots=slots, say=_say).run()


@local.command()
@_state_option
@_explain
def down(state_dir: Path) -> None:
    """End the cluster; its data stays."""
    from dist_test.local import background

    was_up = background.stop(state_dir)
    click.echo(f"down; the data stays in {state_dir}" if was_up else f"no cluster is up in {state_dir}")


@local.command()
@_state_option
@_explain
def status(state_dir: Path) -> None:
    """Show the programs of the cluster. Exits 1 when it is down."""
    from rich.console import Console
    from rich.table import Table

    from dist_test.local.status import read_status

    found = read_status(state_dir)
    table = Table("program", "pid", "address", "state", box=None)
    for program in found.programs:
        table.add_row(program.name, str(program.pid), program.address, program.state)
    Console().print(table)
    click.echo(f"web: {found.master_url}" if found.is_ready else "not ready yet")


@local.command()
@_state_option
@_explain
def env(state_dir: Path) -> None:
    """Print the lines that point a shell's clients at the cluster: eval "$(dist-test local env)"."""
    from dist_test.local.configuration import client_environment
    from dist_test.local.status import read_status

    found = read_status(state_dir)
    for name, value in client_environment(state_dir, found.master_url, found.isolate_url).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@local.command()
@_slaves_option
@_slots_option
@click.option(
    "--state",
    "state_dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory for the cluster; default: a new one, removed at the end.",
)
@click.option(
    "--suite",
    "suite_dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory with tasks.json, expected.json and the .isolate files; default: tests/sample_suite.",
)
@click.option("--keep", is_flag=True, envvar="KEEP", help="Leave the cluster up (also: KEEP=1).")
@_explain
def demo(slaves: int, slots: int, state_dir: Path | None, suite_dir: Path | None, keep: bool) -> None:
    """Run the sample suite on a cluster and compare what comes of it with what is expected. Exits 0 when all agrees."""
    from dist_test.local.demo import run_demo

    sys.exit(0 if run_demo(slaves=slaves, slots=slots, state_dir=state_dir, suite_dir=suite_dir, keep=keep) else 1)


def _say(sentence: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {sentence}")
