"""The program dist-test-autoscale."""

import argparse
import json
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path

from dist_test import __version__
from dist_test.errors import ConfigurationError, DistTestError, InvalidSnapshot
from dist_test_autoscale.decision import Decision, Kind
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
        return _validate(options.config) if options.command == "validate-config" else _plan(options)
    except (ConfigurationError, InvalidSnapshot) as exc:
        return _complain(exc, ExitStatus.MISCONFIGURED)
    except DistTestError as exc:
        return _complain(exc, ExitStatus.FAILED)


def _complain(exc: Exception, status: ExitStatus) -> int:
    for line in str(exc).splitlines():
        print(f"dist-test-autoscale: {line}", file=sys.stderr)  # noqa: T201  # the answer of a command
    return status


def _validate(path: Path) -> int:
    groups = load_settings(path).policy.groups
    groups = load_settings(path).policy.groups
    names = ", ".join(group.name for group in groups)
    count = "1 group" if len(groups) == 1 else f"{len(groups)} groups"
    print(f"{path}: good; {count}: {names}")  # noqa: T201  # the answer of a command
    return ExitStatus.OK


def _plan(options: argparse.Namespace) -> int:
    try:
        case = read_case(_load(options.snapshot))
    except (ConfigurationError, InvalidSnapshot) as exc:
        lines = (f"{options.snapshot}: {line}" for line in str(exc).splitlines())
        raise InvalidSnapshot("\n".join(lines)) from exc
    decision = decide(case.policy, case.snapshot, case.state)
    answer = json.dumps(decision.to_document(), indent=2) if options.json else _for_people(decision)
    print(answer)  # noqa: T201  # the answer of a command
    return exit_status(decision)


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
    _add_plan(commands)
    _add_validate_config(commands)
    return parser


def _add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "say what would be done, and why"
    parser = commands.add_parser(
        "plan",
        help=about,
        description="Say what would be done, and why, and do nothing. Exit status 0: no change is wanted; 10: one is;"
        " 20: hold, for lack of a signal.",
    )
    parser.add_argument(
        "--snapshot", metavar="FILE", type=Path, required=True, help="decide from this file instead of the world"
    )
    parser.add_argument("--json", action="store_true", help="print the decision as JSON")


def _add_validate_config(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "say what is wrong with the configuration; exit status 2 if anything is"
    parser = commands.add_parser("validate-config", help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.add_argument(
        "--config", metavar="FILE", type=Path, default=DEFAULT_PATH, help="configuration file (default: %(default)s)"
    )


if __name__ == "__main__":
    sys.exit(main())
