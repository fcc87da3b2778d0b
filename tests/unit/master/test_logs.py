"""One format for every service's log."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test.errors import ConfigurationError
from dist_test.logs import set_up_logging


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_a_line_has_time_level_logger_message_and_fields(tmp_path: Path) -> None:
    set_up_logging("server", tmp_path / "logs")

    logging.getLogger("dist_test.x").info("Claimed %s", "it", extra={"action": "claimed", "digest": "ab"})

    line = (tmp_path / "logs/server.log").read_text()
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    assert re.fullmatch(time + r" INFO dist_test\.x: Claimed it action=claimed digest=ab\n", line)


def test_without_a_directory_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("slave", None)

    logging.getLogger("dist_test.x").warning("Careful")

    assert " WARNING dist_test.x: Careful\n" in capsys.readouterr().err


def test_setting_up_twice_writes_once(tmp_path: Path) -> None:
    set_up_logging("server", tmp_path)
    set_up_logging("server", tmp_path)

    logging.getLogger("dist_test.x").info("Once")

    assert (tmp_path / "server.log").read_text().count("Once") == 1


def test_a_rotated_file_is_left_alone(tmp_path: Path) -> None:
    set_up_logging("server", tmp_path)
    logging.getLogger("x").info("old")
    (tmp_path / "server.log").rename(tmp_path / "server.log.1")

    logging.getLogger("x").info("new")

    assert "new" in (tmp_path / "server.log").read_text()
    assert "new" not in (tmp_path / "server.log.1").read_text()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="log_dir"):
        set_up_logging("server", tmp_path / "file")
