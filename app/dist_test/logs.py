"""Logging, set up in one place and in one format for every service."""

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path

from dist_test.errors import ConfigurationError

EXTRA_FIELDS = ("action", "job", "task", "digest")


class UtcFormatter(logging.Formatter):
    """Time in UTC, level, logger, message, and those of EXTRA_FIELDS that the record has, as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s%(fields)s")

    def format(self, record: logging.LogRecord) -> str:
        found = [(name, getattr(record, name)) for name in EXTRA_FIELDS if hasattr(record, name)]
        record.fields = "".join(f" {name}={value}" for name, value in found)
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  # logging's name
        return datetime.fromtimestamp(record.created, UTC).strftime(datefmt or "%Y-%m-%dT%H:%M:%S.%fZ")


def set_up_logging(program: str, log_dir: Path | None, *, level: int = logging.INFO) -> None:
    """Send all logging of this process to `<log_dir>/<program>.log`, or to stderr without a directory.

    Replaces what was set up before. The file is opened anew when something else has rotated it away. Raises
    ConfigurationError when it cannot be written.
    """
    handler = logging.StreamHandler(sys.stderr) if log_dir is None else _file_handler(log_dir / f"{program}.log")
    handler.setFormatter(UtcFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)


def _file_handler(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return WatchedFileHandler(path, encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"dist_test.log_dir: {path} cannot be written: {exc.strerror}") from exc
