"""The program dist-test-master: serving, and what operators do beside it."""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta

from dist_test import __version__
from dist_test.errors import DistTestError
from dist_test.logs import set_up_logging
from dist_test.settings import MasterSettings, load_master_settings, values
from dist_test.storage.rights import RIGHTS

PENDING = 3  # the exit status of `migrate --check` that found something to do


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
    if options.command == "check":
        _say("The settings are complete.")
        return 0
    if options.command == "serve":
        return _serve(settings)
    if options.command == "migrate":
        return _migrate(options, settings)
    if options.command == "audit":
        from dist_test.master.audit import run_audit

        return run_audit(settings, options.job, _say)
    if options.command == "prune":
        from dist_test.master.prune import run_prune

        return run_prune(settings, options.older_than, _say, is_dry=options.dry_run, as_json=options.json)
    if options.command == "promote":
        from dist_test.master.promote import run_promote

        return run_promote(settings, options.job, _say)
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


def _migrate(options: argparse.Namespace, settings: MasterSettings) -> int:
    # It tells of its plugins and contexts; what we changed is said below.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from dist_test.storage.database import Database
    from dist_test.storage.grants import Account
    from dist_test.storage.upkeep import bring_up, look

    accounts = [Account(program=program, user=user, host=options.host) for program, user in options.grant]
    with closing(Database(settings.mysql, pool_size=1)) as database:
        changes = (look if options.check else bring_up)(database, to=options.to, accounts=accounts)
    for change in changes:
        _say(f"pending: {change}" if options.check else change)
    if not changes:
        _say("unchanged")
    return PENDING if options.check and changes else 0


def _operate(options: argparse.Namespace, settings: MasterSettings) -> int:
    from dist_test.storage.database import Database

    with closing(Database(settings.mysql, pool_size=1)) as database:
        database.check_schema()
        if options.command == "weight":
            from dist_test.storage.fairness import set_weight

            database.run(lambda connection: set_weight(connection, options.owner, options.weight))
            _say(f"{options.owner} has the weight {options.weight:g} from the next submit on.")
            return 0
        from dist_test.master import fleet

        if options.command == "slaves":
            fleet.list_slaves(database, _say, as_json=options.json)
            return 0
        fleet.set_wanted(database, options.slave, "drain" if options.command == "drain" else "run")
        if options.command == "drain" and options.wait is not None:
            return 0 if fleet.Drain(database).wait(options.slave, seconds=options.wait, say=_say) else 1
        for slave in options.slave:
            _say(f"{slave} learns of it with its next heartbeat.")
    return 0


def _weight(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not 0.01 <= float(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a weight; give a number from 0.01 to 100")
    return float(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds; give one from 0 on")
    return float(text)


def _age(text: str) -> timedelta:
    try:
        return values.age(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is no age; {exc}") from exc


def _grant(text: str) -> tuple[str, str]:
    program, _, user = text.partition("=")
    if program not in RIGHTS or not user:
        programs = ", ".join(RIGHTS)
        raise argparse.ArgumentTypeError(f"{text!r} names no program and account; give PROGRAM=ACCOUNT: {programs}")
    return program, user


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
    commands.add_parser("check", help="look at the settings and nothing else; exit status 1 with all that is wrong")
    _add_migrate(commands.add_parser("migrate", help="set the database's schema and rights; safe to repeat"))
    audit = commands.add_parser("audit", help="prove that nothing of a job is lost; exit status 1 if something is")
    audit.add_argument("job", nargs="?", help="job id; without it all that run, and the last hundred")
    promote = commands.add_parser("promote", help="put what waits of a job before all others; says whom that delays")
    promote.add_argument("job", help="job id")
    _add_prune(commands.add_parser("prune", help="remove jobs that ended long ago, with their logs and artifacts"))
    slaves = commands.add_parser("slaves", help="list the slaves that ever registered")
    slaves.add_argument("--json", action="store_true", help="as /api/v1/slaves has them")
    drain = commands.add_parser("drain", help="let slaves finish what they run and take no more")
    drain.add_argument("slave", nargs="+", help="slave id")
    drain.add_argument(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help="wait for the end of what runs, so long at most; exit status 1, and what still runs, when it took longer",
    )
    resume = commands.add_parser("resume", help="let drained slaves take tasks again")
    resume.add_argument("slave", nargs="+", help="slave id")
    weight = commands.add_parser("weight", help="set an owner's share of the cluster relative to others, who have 1")
    weight.add_argument("owner", help="owner of jobs")
    weight.add_argument("weight", type=_weight, help="0.01 to 100")
    return parser


def _add_migrate(migrate: argparse.ArgumentParser) -> None:
    migrate.description = (
        "Bring the database's schema to this release's revision, and give the programs' accounts their rights on it."
        " Prints each change, or `unchanged`."
    )
    migrate.add_argument(
        "--check",
        action="store_true",
        help="change nothing; exit status 3, and what is pending, when there is something",
    )
    migrate.add_argument("--to", metavar="REVISION", help="go to this revision, back to an earlier one as well")
    migrate.add_argument(
        "--grant",
        type=_grant,
        action="append",
        default=[],
        metavar="PROGRAM=ACCOUNT",
        help=f"give an account that exists exactly the rights of a program: {', '.join(RIGHTS)}; can be repeated",
    )
    migrate.add_argument("--host", default="%", help="host part of these accounts (default: %(default)s)")


def _add_prune(prune: argparse.ArgumentParser) -> None:
    prune.description = (
        "Remove jobs that ended long ago: rows, logs and artifacts; and logs and artifacts whose job is not there."
        " Jobs that are not finished stay, whatever their age. `dist-test-isolate prune` does the blobs."
        " The database account must own the tables, as for `migrate`."
    )
    prune.add_argument(
        "--older-than",
        type=_age,
        required=True,
        metavar="AGE",
        help="since when a job has ended: 12h, 30d, 8w; 1h at least",
    )
    prune.add_argument("--dry-run", action="store_true", help="remove nothing; list what would be removed")
    prune.add_argument("--json", action="store_true", help="say it as one JSON document")


if __name__ == "__main__":
    sys.exit(main())
