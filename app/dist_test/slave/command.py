"""The program dist-test-slave."""

import argparse
import dataclasses
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from dist_test import __version__
from dist_test.errors import DistTestError
from dist_test.settings import SlaveSettings, load_slave_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a slave until SIGTERM or SIGINT; a second one hands running tasks back at once. Exit status 1 on errors."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_slave_settings()
        if options.slots is not None:
            settings = dataclasses.replace(settings, slots=options.slots)
        _run(settings)
    except (DistTestError, OSError) as exc:
        print(f"dist-test-slave: {exc}", file=sys.stderr)  # noqa: T201  # before there is a log, or instead of one
        return 1
    return 0


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
    return parser


def _slots(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of slots; give a whole number from 1 to 256")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
