"""The program dist-test-autoscale."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias

from dist_test import __version__
from dist_test.errors import ConfigurationError, DatabaseUnavailable, DistTestError, InvalidSnapshot
from dist_test.logs import set_up_logging
from dist_test_autoscale.decision import Decision, Hold, Kind
from dist_test_autoscale.policy import decide
from dist_test_autoscale.settings import DEFAULT_PATH, load_settings
from dist_test_autoscale.snapshot import read_case


class ExitStatus(IntEnum):
    """How the program ends."""

    OK = 0
    FAILED = 1
    MISCONFIGURED = 2
    UNREACHABLE = 3
    NOT_LEADER = 4
    CHANGE_WANTED = 10
    HOLD = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; give the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (ConfigurationError, InvalidSnapshot) as exc:
        return _complain(exc, ExitStatus.MISCONFIGURED)
    except DatabaseUnavailable as exc:
        return _complain(exc, ExitStatus.UNREACHABLE)
    except DistTestError as exc:
        return _complain(exc, ExitStatus.FAILED)


def _complain(exc: Exception, status: ExitStatus) -> int:
    for line in str(exc).splitlines():
        print(f"dist-test-autoscale: {line}", file=sys.stderr)  # noqa: T201  # the answer of a command
    return status


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # the answer of a command


def _validate(options: argparse.Namespace) -> int:
    groups = load_settings(options.config).policy.groups
    names = ", ".join(group.name for group in groups)
    count = "1 group" if len(groups) == 1 else f"{len(groups)} groups"
    _say(f"{options.config}: good; {count}: {names}")
    return ExitStatus.OK


# What these need takes a moment to import: --help and a bad file need not wait for it.
def _run(options: argparse.Namespace) -> int:
    settings = load_settings(options.config)
    if options.dry_run:
        settings = replace(settings, dry_run=True)
    set_up_logging("autoscaler", None)
    from dist_test_autoscale import live

    if not options.once:
        live.run(settings)
        return ExitStatus.OK
    tick = live.run_once(settings)
    if tick.decision.hold is not None:
        return ExitStatus.NOT_LEADER if tick.decision.hold is Hold.NOT_LEADER else ExitStatus.UNREACHABLE
    return ExitStatus.FAILED if any(outcome.error for outcome in tick.outcomes) else ExitStatus.OK


def _plan(options: argparse.Namespace) -> int:
    decision = _replay(options.snapshot) if options.snapshot else _look(options.config)
    _say(json.dumps(decision.to_document(), indent=2) if options.json else _for_people(decision))
    return exit_status(decision)


def _replay(path: Path) -> Decision:
    try:
        case = read_case(_load(path))
    except (ConfigurationError, InvalidSnapshot) as exc:
        lines = (f"{path}: {line}" for line in str(exc).splitlines())
        raise InvalidSnapshot("\n".join(lines)) from exc
    return decide(case.policy, case.snapshot, case.state)


def _look(config: Path) -> Decision:
    settings = load_settings(config)
    set_up_logging("autoscaler", None, level=logging.WARNING)
    from dist_test_autoscale import live

    return live.plan(settings)


def _status(options: argparse.Namespace) -> int:
    from dist_test_autoscale import live

    document = live.status(load_settings(options.config))
    _say(json.dumps(document, indent=2) if options.json else "\n".join(live.status_for_people(document)))
    return ExitStatus.OK


def _pin(options: argparse.Namespace) -> int:
    from dist_test_autoscale import live

    _say(live.pin(load_settings(options.config), options.group, options.size))
    return ExitStatus.OK


def _unpin(options: argparse.Namespace) -> int:
    from dist_test_autoscale import live

    _say(live.unpin(load_settings(options.config), options.group))
    return ExitStatus.OK


_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "plan": _plan,
    "status": _status,
    "pin": _pin,
    "unpin": _unpin,
    "validate-config": _validate,
}


def exit_status(decision: Decision) -> ExitStatus:
    """What `plan` ends with."""
    if decision.hold is not None:
        return ExitStatus.HOLD
    return ExitStatus.CHANGE_WANTED if decision.actions else ExitStatus.OK


def _load(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise InvalidSnapshot(f"cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, json.JSONDecodeError) as exc:
        raise InvalidSnapshot(f"is not JSON: {exc}") from exc
    except (ValueError, RecursionError) as exc:  # thousands of digits, or of brackets
        raise InvalidSnapshot(f"cannot be read: {exc}") from exc


def _for_people(decision: Decision) -> str:
    lines = list(decision.reasons)
    for action in decision.actions:
        what = {Kind.GROW: str(action.slaves), Kind.BACKOFF: f"{action.seconds:g} s"}
        names = ", ".join(target.name for target in action.targets)
        lines.append(f"  {action.kind} {action.group}: {what.get(action.kind, names)}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dist-test-autoscale",
        description="Buy slaves when work waits, give them back when it does not.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="", required=True)
    _add_run(commands)
    _add_plan(commands)
    _add_status(commands)
    _add_pins(commands)
    about = "say what is wrong with the configuration; exit status 2 if anything is"
    _add(commands, "validate-config", about)
    return parser


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _add(commands: _Commands, name: str, about: str, more: str = "") -> argparse.ArgumentParser:
    description = f"{about[0].upper()}{about[1:]}.{more}"
    parser = commands.add_parser(name, help=about, description=description)
    parser.add_argument(
        "--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help="configuration file (default: %(default)s)"
    )
    return parser


def _add_run(commands: _Commands) -> None:
    more = " With --once, exit status 3: something could not be read; 4: another service decides."
    parser = _add(commands, "run", "decide and act until SIGTERM", more)
    parser.add_argument("--once", action="store_true", help="decide and act once")
    parser.add_argument("--dry-run", action="store_true", help="decide and record, but change nothing")


def _add_plan(commands: _Commands) -> None:
    more = " Exit status 0: no change is wanted; 10: one is; 20: hold, for lack of a signal. Needs no lock."
    parser = _add(commands, "plan", "say what would be done, and why, and do nothing", more)
    parser.add_argument("--snapshot", metavar="FILE", type=Path, help="decide from this file instead of the world")
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")


def _add_status(commands: _Commands) -> None:
    parser = _add(commands, "status", "say who decides, what was decided last, and what is pinned")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _add_pins(commands: _Commands) -> None:
    pin = _add(commands, "pin", "keep a group at a size, or without --group change nothing at all, until unpinned")
    pin.add_argument("--group", metavar="NAME", help="group of the configuration")
    pin.add_argument("--size", metavar="N", type=int, help="slaves to keep it at; needed with --group")
    unpin = _add(commands, "unpin", "take a pin back")
    unpin.add_argument("--group", metavar="NAME", help="the pinned group; without it, the pin of everything")


if __name__ == "__main__":
    sys.exit(main())
