"""Which dumps the command `backup` of the role backup makes, checks, keeps and restores."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from roles.backup.files.backup import (
    Backup,
    BackupError,
    Databases,
    Dump,
    dumps_of,
    is_check_due,
    main,
    superfluous,
)

NOW = datetime(2026, 11, 24, 2, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Dump]:
    def put(age_days: int, *, is_verified: bool = False, database: str = "dist_test") -> Dump:
        dump = Dump.named(tmp_path, database, NOW - age_days * DAY)
        dump.path.touch()
        if is_verified:
            dump.mark.touch()
        return dump

    return put


def test_the_name_of_a_dump_tells_what_and_when(tmp_path: Path) -> None:
    path = tmp_path / "dist_test-20261124T023000Z.sql.zst"
    dump = Dump.from_path(path)
    assert (dump.database, dump.time) == ("dist_test", NOW)
    assert Dump.named(tmp_path, "dist_test", NOW + timedelta(microseconds=5)) == dump


def test_another_file_is_no_dump(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is no dump"):
        Dump.from_path(tmp_path / "dist_test.sql")


def test_dumps_of_other_databases_and_unfinished_ones_are_not_ours(put: Callable[..., Dump], tmp_path: Path) -> None:
    ours = [put(2), put(1)]
    put(0, database="dist_test-2")
    (tmp_path / "dist_test-20261124T023000Z.sql.zst.new").touch()
    assert dumps_of(tmp_path, "dist_test") == ours


def test_old_dumps_go_but_the_newest_and_the_newest_that_was_checked(put: Callable[..., Dump]) -> None:
    oldest, checked, old, newest = put(40, is_verified=True), put(30, is_verified=True), put(25), put(20)
    assert superfluous([newest, old, checked, oldest], NOW, 14 * DAY) == [oldest, old]


def test_young_dumps_stay(put: Callable[..., Dump]) -> None:
    assert superfluous([put(14), put(1), put(0, is_verified=True)], NOW, 14 * DAY) == []


@pytest.mark.parametrize(
    ("ages", "checked_ages", "is_due"),
    [
        pytest.param([0], [], True, id="first dump"),
        pytest.param([6, 0], [6], False, id="checked this week"),
        pytest.param([7, 0], [7], True, id="checked a week ago"),
    ],
)
def test_a_check_is_due_every_week(
    put: Callable[..., Dump], ages: list[int], checked_ages: list[int], is_due: bool
) -> None:
    dumps = [put(age, is_verified=age in checked_ages) for age in ages]
    assert is_check_due(dumps, NOW, 7 * DAY) is is_due


class FakeDatabases(Databases):
    """Databases by name, each a set of tables; a dump is a file with their names."""

    def __init__(self, **databases: set[str]) -> None:
        self.all = dict(databases)
        self.breaks_after = 1000

    def tables(self, database: str) -> set[str]:
        return self.all.get(database, set())

    def drop(self, database: str) -> None:
        self.all.pop(database, None)

    def create(self, database: str) -> None:
        assert database not in self.all
        self.all[database] = set()

    def dump(self, dump: Dump) -> None:
        dump.path.write_text("\n".join(sorted(self.all[dump.database])))

    def check(self, dump: Dump) -> None:
        if "damaged" in dump.path.read_text():
            raise BackupError(f"{dump.path} is no whole dump")

    def load(self, dump: Dump, database: str) -> None:
        for table in dump.path.read_text().split()[: self.breaks_after]:
            self.all[database].add(table)
        if self.breaks_after < 1000:
            raise BackupError("`mariadb` ended with 1")


@pytest.fixture
def databases() -> FakeDatabases:
    return FakeDatabases(dist_test={"jobs", "tasks"})


@pytest.fixture
def backup(databases: FakeDatabases) -> Backup:
    return Backup(databases, lambda: NOW)


def run(backup: Backup, directory: Path) -> None:
    backup.run(directory, "dist_test", keep=14 * DAY, verify_every=7 * DAY)


def test_the_first_dump_is_checked_in_a_database_that_goes_again(
    backup: Backup, databases: FakeDatabases, tmp_path: Path
) -> None:
    run(backup, tmp_path)
    (dump,) = dumps_of(tmp_path, "dist_test")
    assert dump.is_verified
    assert databases.all.keys() == {"dist_test"}


def test_a_dump_that_cannot_be_restored_is_no_checked_one(
    backup: Backup, databases: FakeDatabases, tmp_path: Path
) -> None:
    databases.breaks_after = 1
    with pytest.raises(BackupError, match="ended with 1"):
        run(backup, tmp_path)
    (dump,) = dumps_of(tmp_path, "dist_test")
    assert not dump.is_verified
    assert databases.all.keys() == {"dist_test"}


def test_old_dumps_stay_while_new_ones_fail(
    backup: Backup, databases: FakeDatabases, put: Callable[..., Dump], tmp_path: Path
) -> None:
    old = put(30)
    databases.breaks_after = 0
    with pytest.raises(BackupError):
        run(backup, tmp_path)
    assert old.path.exists()


def test_what_a_killed_run_left_is_cleared_away(backup: Backup, tmp_path: Path) -> None:
    leftover = tmp_path / "dist_test-20261123T023000Z.sql.zst.new"
    leftover.touch()
    old_mark = tmp_path / "dist_test-20261001T023000Z.sql.zst.verified"
    old_mark.touch()
    old_mark.with_suffix("").touch()
    run(backup, tmp_path)
    assert not leftover.exists()
    assert not old_mark.exists()


def test_a_restore_replaces_everything_and_keeps_what_was_there(
    backup: Backup, databases: FakeDatabases, put: Callable[..., Dump], tmp_path: Path
) -> None:
    dump = put(3)
    dump.path.write_text("jobs")
    backup.restore(dump, "dist_test", discard=False)
    assert databases.all == {"dist_test": {"jobs"}}
    assert dumps_of(tmp_path, "dist_test")[-1].path.read_text().split() == ["jobs", "tasks"]


def test_a_restore_into_another_database_leaves_the_first_alone(
    backup: Backup, databases: FakeDatabases, put: Callable[..., Dump]
) -> None:
    dump = put(3)
    dump.path.write_text("jobs")
    backup.restore(dump, "dist_test_old", discard=False)
    assert databases.all == {"dist_test": {"jobs", "tasks"}, "dist_test_old": {"jobs"}}


def test_a_damaged_dump_is_not_begun_with(backup: Backup, databases: FakeDatabases, put: Callable[..., Dump]) -> None:
    dump = put(3)
    dump.path.write_text("damaged")
    with pytest.raises(BackupError, match="no whole dump"):
        backup.restore(dump, "dist_test", discard=True)
    assert databases.all == {"dist_test": {"jobs", "tasks"}}


def test_the_status_is_what_the_role_looks_for(
    put: Callable[..., Dump], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["status", str(tmp_path), "dist_test"]
    put(1)
    assert main(words) == 0
    assert capsys.readouterr().out == "changed: no dump of dist_test was checked\n"
    put(2, is_verified=True)
    assert main(words) == 0
    assert capsys.readouterr().out == "unchanged\n"


def test_a_name_that_could_be_a_statement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["status", str(tmp_path), "a`; DROP DATABASE mysql"])
