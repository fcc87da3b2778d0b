"""Boot the hosts of inventories/testbed on this computer, and look after them: `python -m tests.testbed up`."""

import argparse
import os
import sys

from images.commands import MachineError
from images.machine import why_not
from tests.testbed.bed import HOSTS, Bed


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    if reason := why_not():
        sys.exit(f"testbed: {reason}")
    try:
        _run(Bed.from_environment(), options)
    except MachineError as error:
        sys.exit(f"testbed: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action, what in _ACTIONS.items():
        of_hosts = actions.add_parser(action, help=what)
        of_hosts.add_argument("names", nargs="*", metavar="NAME", help="a host; default: all")
    ssh = actions.add_parser("ssh", help="log in to a host, or run a command there")
    ssh.add_argument("name", choices=HOSTS)
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    return parser


_ACTIONS = {
    "up": "start what is off, and wait until people can log in",
    "down": "remove hosts with their disks",
    "reset": "start again with empty disks",
    "power-off": "pull the plug; the disk stays",
    "reboot": "pull the plug and start again",
    "status": "say which hosts are on",
}


def _run(bed: Bed, options: argparse.Namespace) -> None:
    if options.action == "ssh":
        host = bed.host(options.name)
        command = host.ssh_command(options.command)
        os.execvp(command[0], command)
    names = options.names or list(HOSTS)
    match options.action:
        case "up":
            bed.up(names)
        case "down":
            bed.down(names)
        case "reset":
            bed.reset(names)
        case "power-off":
            bed.power_off(names)
        case "reboot":
            bed.power_off(names)
            bed.up(names)
    _print_status(bed)


def _print_status(bed: Bed) -> None:
    for name in HOSTS:
        host = bed.host(name)
        print(f"{name:10} {host.address}  {'on' if host.is_on else 'off'}")
    print(f"key {bed.key_path}, known hosts {bed.state_dir / 'known_hosts'}")


if __name__ == "__main__":
    main(sys.argv[1:])
