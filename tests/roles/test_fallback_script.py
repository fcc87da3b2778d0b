"""What an upgrade can go back to: the program `fallback`, on a root directory of the test's own."""

import os
from pathlib import Path

import pytest

from playbooks.files.fallback import Fallback, files_of

OLD, NEW = "0.1.0-aaaaaaaaaaaa", "0.2.0-bbbbbbbbbbbb"
SETTINGS = "etc/dist_test/slave.cnf"
UNIT = "etc/systemd/system/dist-test-slave.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host that runs from OLD."""
    write(tmp_path / f"opt/dist_test/releases/{OLD}/.complete", "", mode=0o644)
    (tmp_path / "opt/dist_test/current").symlink_to(f"releases/{OLD}")
    write(tmp_path / SETTINGS, "old", mode=0o600)
    write(tmp_path / UNIT, "old unit", mode=0o644)
    return tmp_path


def write(path: Path, text: str, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_a_host_gets_back_text_and_mode_of_what_changed(root: Path) -> None:
    fallback = Fallback(root)
    fallback.keep(NEW)
    write(root / SETTINGS, "new", mode=0o644)

    assert fallback.put_back(NEW) == [root / SETTINGS]

    assert (root / SETTINGS).read_text() == "old"
    assert (root / SETTINGS).stat().st_mode & 0o777 == 0o600
    assert fallback.differing(NEW) == []


def test_a_file_that_came_with_the_upgrade_goes(root: Path) -> None:
    fallback = Fallback(root)
    fallback.keep(NEW)
    drop_in = root / f"{UNIT}.d/new.conf"
    write(drop_in, "new", mode=0o644)

    assert fallback.put_back(NEW) == [drop_in]

    assert not drop_in.exists()


def test_a_file_that_the_upgrade_removed_is_there_again(root: Path) -> None:
    fallback = Fallback(root)
    fallback.keep(NEW)
    (root / UNIT).unlink()

    fallback.put_back(NEW)

    assert (root / UNIT).read_text() == "old unit"


def test_a_second_start_of_the_upgrade_keeps_what_the_first_one_kept(root: Path) -> None:
    fallback = Fallback(root)
    assert fallback.keep(NEW)
    write(root / SETTINGS, "new", mode=0o600)

    assert not fallback.keep(NEW)
    fallback.put_back(NEW)

    assert (root / SETTINGS).read_text() == "old"


def test_keeping_that_was_cut_off_counts_for_nothing(root: Path) -> None:
    write(root / f"opt/dist_test/kept/{NEW}.new/files/{SETTINGS}", "half", mode=0o600)
    fallback = Fallback(root)

    fallback.keep(NEW)

    assert fallback.before(NEW) == OLD
    assert fallback.differing(NEW) == []


def test_the_release_from_before_becomes_the_youngest(root: Path) -> None:
    """`release prune` deletes the oldest ones."""
    marker = root / f"opt/dist_test/releases/{OLD}/.complete"
    os.utime(marker, (1_700_000_000,) * 2)

    Fallback(root).keep(NEW)

    assert marker.stat().st_mtime > 1_700_000_000


def test_what_is_kept_is_for_root_alone(root: Path) -> None:
    Fallback(root).keep(NEW)

    assert (root / f"opt/dist_test/kept/{NEW}").stat().st_mode & 0o777 == 0o700


def test_a_host_without_dist_test_has_no_release_to_go_back_to(tmp_path: Path) -> None:
    fallback = Fallback(tmp_path)

    fallback.keep(NEW)

    assert fallback.before(NEW) == ""


def test_forgetting_leaves_nothing(root: Path) -> None:
    fallback = Fallback(root)
    fallback.keep(NEW)

    fallback.forget()

    assert not (root / "opt/dist_test/kept").exists()


def test_a_unit_reads_the_files_that_it_names() -> None:
    text = "LoadCredential=dist_test.cnf:/etc/dist_test/master.cnf\nExecStart=/opt/dist_test/current/bin/x"
    changed = [Path("/etc/dist_test/master.cnf"), Path("/etc/dist_test/slave.cnf"), Path("/opt/dist_test/current")]

    assert files_of(text, changed) == ["/etc/dist_test/master.cnf", "/opt/dist_test/current"]
