"""The program dist-test-master: `serve`, `migrate`, `audit`, `drain`, `resume`, `weight`."""

import argparse
import re
import sys
from collections.abc import Sequence

from dist_test import __version__
from dist_test.errors import DistTestError
from dist_test.logs import set_up_logging
from dist_test.settings import MasterSettings, load_master_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says. Exit status 1, with a message, on what dist_test can explain."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_master_settings()
        set_up_logging("server", settings.log_dir if options.command == "serve" else None)
        return _run(options, settings)
    except DistTestError as exc:
        print(f"dist-test-master: {exc}", file=sys.stderr)  # noqa: T201  # what the program is for, not a log
        return 1


def _run(options: argparse.Namespace, settings: MasterSettings) -> int:
    if options.command == "serve":
        return _serve(settings)
    if options.command == "migrate":
        return _migrate(settings)
    if options.command == "audit":
        from dist_test.master.audit import run_audit

        return run_audit(settings, options.job, _say)
    return _operate(options, settings)


def _serve(settings: MasterSettings) -> int:
    from dist_test.storage.database import Database

    database = Database(settings.mysql, pool_size=1)
    try:
        database.check_schema()
    finally:
        database.close()  # the workers make their own: a connection does not survive a fork
    from dist_test.master.server import Server
    from dist_test.serving import counts_of_all_workers

    with counts_of_all_workers("master"):
        Server(settings).run()
    return 0


def _migrate(settings: MasterSettings) -> int:
    from dist_test.storage.database import Database
    from dist_test.storage.migrate import migrate

    database = Database(settings.mysql, pool_size=1)
    try:
        before, after = migrate(database)
    finally:
        database.close()
    if before == after:
        _say(f"The schema of {settings.mysql.database} is {after} already.")
    else:
        _say(f"The schema of {settings.mysql.database} went from {before or 'nothing'} to {after}.")
    return 0


def _operate(options: argparse.Namespace, settings: MasterSettings) -> int:
    from dist_test.storage.database import Database
    from dist_test.storage.fairness import set_weight
    from dist_test.storage.slaves import Slaves

    database = Database(settings.mysql, pool_size=1)
    try:
        database.check_schema()
        if options.command == "weight":
            database.run(lambda connection: set_weight(connection, options.owner, options.weight))
            _say(f"{options.owner} has the weight {options.weight:g} from the next submit on.")
        else:
            Slaves(database).want(options.slave, "drain" if options.command == "drain" else "run")
            _say(f"{options.slave} learns of it with its next heartbeat.")
    finally:
        database.close()
    return 0


def _weight(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not 0.01 <= float(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a weight; give a number from 0.01 to 100")
    return float(text)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201  # the command's answer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dist-test-master",
        description="Take jobs and answer for them. Settings: docs/reference/settings.md.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="serve until SIGTERM")
    commands.add_parser("migrate", help="bring the database's schema up to this version's; safe to repeat")
    audit = commands.add_parser("audit", help="prove that nothing of a job is lost; exit status 1 if something is")
    audit.add_argument("job", nargs="?", help="job id; without it all that run, and the last hundred")
    drain = commands.add_parser("drain", help="let a slave finish what it runs and take no more")
    drain.add_argument("slave", help="slave id")
    resume = commands.add_parser("resume", help="let a drained slave take tasks again")
    resume.add_argument("slave", help="slave id")
    weight = commands.add_parser("weight", help="set an owner's share of the cluster relative to others, who have 1")
    weight.add_argument("owner", help="owner of jobs")
    weight.add_argument("weight", type=_weight, help="0.01 to 100")
    return parser


if __name__ == "__main__":
    sys.exit(main())
