"""Boot the hosts of inventories/testbed on this computer, and look after them: `python -m tests.testbed up`."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence

from images.commands import MachineError
from images.machine import why_not
from tests.testbed.bed import HOSTS, Bed
from tests.testbed.deployments import DeploymentFailed
from tests.testbed.laptop import ClientFailed
from tests.testbed.trial import TrialFailed, run_trial
from tests.testbed.warm import WarmLayer


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if reason := why_not():
        sys.exit(f"testbed: {reason}")
    try:
        _run(Bed.from_environment(), options)
    except (MachineError, DeploymentFailed, ClientFailed, TrialFailed) as error:
        sys.exit(f"testbed: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action, (_, what) in _ACTIONS.items():
        of_hosts = actions.add_parser(action, help=what)
        of_hosts.add_argument("--layer", choices=["warm"], help="give fresh disks what was harvested, if anything")
        of_hosts.add_argument("names", nargs="*", metavar="NAME", help="a host; default: all")
    ssh = actions.add_parser("ssh", help="log in to a host, or run a command there")
    ssh.add_argument("name", choices=HOSTS)
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    return parser


def _harvest(bed: Bed, names: Iterable[str]) -> None:
    print(WarmLayer(tree=bed.tree).harvest(bed.host(name) for name in names))


def _reboot(bed: Bed, names: Sequence[str]) -> None:
    bed.power_off(names)
    bed.up(names)


_ACTIONS: dict[str, tuple[Callable[[Bed, Sequence[str]], None], str]] = {
    "up": (Bed.up, "start what is off, and wait until people can log in"),
    "down": (Bed.down, "remove hosts with their disks"),
    "reset": (Bed.reset, "start again with empty disks"),
    "power-off": (Bed.power_off, "pull the plug; the disk stays"),
    "reboot": (_reboot, "pull the plug and start again"),
    "harvest": (_harvest, "keep what hosts downloaded as the warm layer"),
    "run": (lambda bed, _names: run_trial(bed), "deploy with pyinfra and run the sample suite"),
    "status": (lambda _bed, _names: None, "say which hosts are on"),
}


def _run(bed: Bed, options: argparse.Namespace) -> None:
    if options.action == "ssh":
        command = bed.host(options.name).ssh_command(options.command)
        os.execvp(command[0], command)
    warm = WarmLayer(tree=bed.tree).find() if options.layer else None
    act, _ = _ACTIONS[options.action]
    act(bed.with_layers(warm) if warm else bed, options.names or list(HOSTS))
    _print_status(bed)


def _print_status(bed: Bed) -> None:
    for name in HOSTS:
        host = bed.host(name)
        print(f"{name:10} {host.address}  {'on' if host.is_on else 'off'}")
    print(f"key {bed.key_path}, known hosts {bed.state_dir / 'known_hosts'}")


if __name__ == "__main__":
    main(sys.argv[1:])
