"""The program dist-test-slave."""

import argparse
import dataclasses
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

from dist_test import __version__
from dist_test.errors import DistTestError
from dist_test.settings import SlaveSettings, load_slave_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a slave until SIGTERM or SIGINT; a second one hands running tasks back at once. Exit status 1 on errors."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "configure":
            _configure(options.metadata, options.base, options.output)
        elif options.command == "check":
            _check(timedelta(seconds=options.wait))
        else:
            _run(_settings(options.slots))
    except (DistTestError, OSError) as exc:
        print(f"dist-test-slave: {exc}", file=sys.stderr)  # noqa: T201  # before there is a log, or instead of one
        return 1
    return 0


def _configure(url: str, base: Path, output: Path) -> None:
    from dist_test.slave.metadata import configure

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    slave_id = configure(url, base=base, output=output)
    print(f"{output}: settings of {slave_id}")  # noqa: T201  # the answer of a command


def _check(wait: timedelta) -> None:
    from dist_test.slave.check import check

    print(check(load_slave_settings(), wait=wait))  # noqa: T201  # the answer of a command


def _settings(slots: int | None) -> SlaveSettings:
    settings = load_slave_settings()
    return settings if slots is None else dataclasses.replace(settings, slots=slots)


def _run(settings: SlaveSettings) -> None:
    # After the settings: --help and a bad setting need not wait for SQLAlchemy.
    from dist_test.logs import set_up_logging
    from dist_test.slave.worker import Worker

    set_up_logging("slave", settings.log_dir)
    worker = Worker(settings)
    _on_signals(worker.leave)
    worker.start()
    # Last: who waits for the metrics to answer waits for a slave that takes tasks.
    if settings.metrics_bind is not None:
        _serve_metrics(settings.metrics_bind)
    worker.wait()
    logging.shutdown()


def _on_signals(act: Callable[[], None]) -> None:
    """Call `act` in a thread of its own for each SIGTERM and SIGINT.

    A handler runs between any two instructions of the main thread, which may hold the very lock that `act` takes.
    """
    reader, writer = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(writer, b"."))

    def listen() -> None:
        while os.read(reader, 1):
            act()

    threading.Thread(target=listen, name="signals", daemon=True).start()


def _serve_metrics(bind: str) -> None:
    from prometheus_client import start_http_server

    host, _, port = bind.rpartition(":")
    start_http_server(int(port), addr=host)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dist-test-slave",
        description="Run tasks from the queue. Settings come from the configuration file: docs/reference/settings.md.",
    )
    parser.add_argument("--slots", type=_slots, help="tasks that run at the same time (default: slave.slots)")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", title="commands", metavar="")
    _add_configure(commands)
    _add_check(commands)
    return parser


def _add_configure(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "write the settings of a slave on Compute Engine from its instance's metadata"
    parser = commands.add_parser("configure", help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.add_argument(
        "--metadata", metavar="URL", default="http://169.254.169.254", help="metadata server (default: %(default)s)"
    )
    parser.add_argument("--base", metavar="FILE", type=Path, required=True, help="settings that the image holds")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="where to write, with mode 0600")


def _add_check(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    about = "say whether the slave of this host takes tasks; exit status 1 if not"
    parser = commands.add_parser("check", help=about, description=f"{about[0].upper()}{about[1:]}.")
    parser.add_argument(
        "--wait", metavar="SECONDS", type=float, default=0.0, help="how long it may take to start (default: 0)"
    )


def _slots(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of slots; give a whole number from 1 to 256")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
