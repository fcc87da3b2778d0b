#!/usr/bin/python3
"""Dump the database of dist_test, check dumps by restoring them, and restore one.

    backup run --verify-days DAYS --keep-days DAYS DIRECTORY DATABASE
    backup status DIRECTORY DATABASE      "unchanged" when a dump was checked, else "changed: why"
    backup restore [--database DATABASE] [--discard] FILE

A dump is a file DATABASE-TIME.sql.zst, whole when it has that name; TIME is in UTC. An empty file with the name of a
dump and ".verified" says that it was restored into a scratch database. `restore` replaces the whole database by what
the dump holds, after it has dumped what is there, unless told to discard it; stop the masters and slaves before.

Run it as root on the database's host. Exits with 1 and a message when it could not do its work.
"""

# ruff: noqa: T201  # a program: what it prints is its answer

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

CLIENT = ("mariadb", "--protocol=socket", "--batch", "--raw", "--skip-column-names")
# Without locks, as of one moment; what is in no table of ours is left out.
DUMP = ("mariadb-dump", "--protocol=socket", "--single-transaction", "--quick", "--routines")
LAST_LINE = b"-- Dump completed"  # mariadb-dump writes it when it has everything
_NAME = re.compile(r"(?P<database>[A-Za-z0-9_-]+)-(?P<time>\d{8}T\d{6}Z)\.sql\.zst")
_TIME = "%Y%m%dT%H%M%SZ"
_DATABASE = re.compile(r"[A-Za-z0-9_-]{1,50}")


class BackupError(Exception):
    """A dump could not be made, is damaged, or could not be restored."""


@dataclass(frozen=True, kw_only=True, order=True)
class Dump:
    """A dump that was made at `time`; newer ones are greater."""

    time: datetime
    path: Path

    @classmethod
    def from_path(cls, path: Path) -> "Dump":
        """Read the name. Raises BackupError when it is not that of a dump."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise BackupError(f"{path} is no dump; those are called DATABASE-TIME.sql.zst")
        return cls(time=datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC), path=path)

    @classmethod
    def named(cls, directory: Path, database: str, time: datetime) -> "Dump":
        """The dump that is made of the database at a time."""
        time = time.replace(microsecond=0)
        return cls(time=time, path=directory / f"{database}-{time.strftime(_TIME)}.sql.zst")

    @property
    def database(self) -> str:
        return self.path.name[: -len("-00000000T000000Z.sql.zst")]

    @property
    def mark(self) -> Path:
        """There when the dump was restored as a check."""
        return self.path.with_name(f"{self.path.name}.verified")

    @property
    def is_verified(self) -> bool:
        return self.mark.exists()


def superfluous(dumps: Sequence[Dump], now: datetime, keep: timedelta) -> list[Dump]:
    """The dumps older than `keep`, but neither the newest nor the newest that was checked."""
    newest = sorted(dumps)[-1:]
    newest += sorted(dump for dump in dumps if dump.is_verified)[-1:]
    return [dump for dump in sorted(dumps) if now - dump.time > keep and dump not in newest]


def is_check_due(dumps: Sequence[Dump], now: datetime, every: timedelta) -> bool:
    """Whether no dump of the last `every` was checked."""
    return not any(dump.is_verified and now - dump.time < every for dump in dumps)


def dumps_of(directory: Path, database: str) -> list[Dump]:
    """The dumps of the database, oldest first."""
    dumps = (Dump.from_path(path) for path in directory.glob("*.sql.zst") if _NAME.fullmatch(path.name))
    return sorted(dump for dump in dumps if dump.database == database)


class Databases:
    """The MariaDB of this host, through its socket."""

    def tables(self, database: str) -> set[str]:
        """Names of the tables; none when there is no such database."""
        query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{database}'"  # noqa: S608  # a checked name
        return set(self._run(query).split())

    def drop(self, database: str) -> None:
        self._run(f"DROP DATABASE IF EXISTS `{database}`")

    def create(self, database: str) -> None:
        self._run(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")

    def dump(self, dump: Dump) -> None:
        """Write the dump aside and give it its name when it is whole and on disk. Raises BackupError."""
        aside = dump.path.with_name(f"{dump.path.name}.new")
        with aside.open("wb") as file:
            _pipe([*DUMP, dump.database], ["zstd", "--quiet"], stdout=file.fileno())
            os.fsync(file.fileno())
        _check_end(aside)
        aside.rename(dump.path)

    def check(self, dump: Dump) -> None:
        """Read the dump to its end. Raises BackupError when it is damaged."""
        _check_end(dump.path)

    def load(self, dump: Dump, database: str) -> None:
        """Execute the dump in an empty database. Raises BackupError at the first statement that fails."""
        _pipe(["zstd", "--decompress", "--stdout", "--quiet", str(dump.path)], [*CLIENT, database])

    def _run(self, statement: str) -> str:
        done = subprocess.run(CLIENT, input=statement, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BackupError(f"MariaDB refused `{statement}`: {done.stderr.strip()}")
        return done.stdout


def _pipe(source: Sequence[str], sink: Sequence[str], *, stdout: int | None = None) -> None:
    with subprocess.Popen(source, stdout=subprocess.PIPE) as first:
        second = subprocess.run(sink, stdin=first.stdout, stdout=stdout, check=False)
        # So that the first ends when the second has ended before it.
        assert first.stdout is not None  # it was asked for
        first.stdout.close()
    for command, code in ((source, first.returncode), (sink, second.returncode)):
        if code != 0:
            raise BackupError(f"`{' '.join(command)}` ended with {code}")


def _check_end(path: Path) -> None:
    with subprocess.Popen(
        ["zstd", "--decompress", "--stdout", "--quiet", str(path)], stdout=subprocess.PIPE
    ) as unpacked:
        assert unpacked.stdout is not None  # it was asked for
        last = b""
        for line in unpacked.stdout:
            last = line.strip() or last
    if unpacked.returncode != 0 or not last.startswith(LAST_LINE):
        raise BackupError(f"{path} is no whole dump; it ends with {last[:80]!r}")


class Backup:
    """Makes, checks and restores dumps."""

    def __init__(self, databases: Databases, clock: Callable[[], datetime]) -> None:
        self._databases = databases
        self._clock = clock

    def run(self, directory: Path, database: str, *, keep: timedelta, verify_every: timedelta) -> None:
        """Dump the database, check the dump when that is due, and delete old dumps."""
        for leftover in directory.glob("*.new"):
            leftover.unlink()
        dump = self.make(directory, database)
        if is_check_due(dumps_of(directory, database), self._clock(), verify_every):
            self.verify(dump)
        for old in superfluous(dumps_of(directory, database), self._clock(), keep):
            old.mark.unlink(missing_ok=True)
            old.path.unlink()
            print(f"deleted {old.path}")

    def make(self, directory: Path, database: str) -> Dump:
        """Dump the database now."""
        dump = Dump.named(directory, database, self._clock())
        self._databases.dump(dump)
        print(f"dumped {database} to {dump.path}, {dump.path.stat().st_size} bytes")
        return dump

    def verify(self, dump: Dump) -> None:
        """Restore the dump into a scratch database. Raises BackupError."""
        with self._scratch(f"{dump.database}_backup_check") as scratch:
            self._databases.load(dump, scratch)
            restored, there = self._databases.tables(scratch), self._databases.tables(dump.database)
        # A migration may have come in between, but it does not take away everything.
        if there and not restored:
            raise BackupError(f"{dump.path} restores no table, but {dump.database} has some")
        dump.mark.touch()
        print(f"checked {dump.path}: {len(restored)} tables")

    def restore(self, dump: Dump, database: str, *, discard: bool) -> None:
        """Replace the database by what the dump holds. What is there is dumped beside it, unless `discard`."""
        self._databases.check(dump)
        if not discard and self._databases.tables(database):
            self.make(dump.path.parent, database)
        self._databases.drop(database)
        self._databases.create(database)
        self._databases.load(dump, database)
        print(f"restored {database} from {dump.path}")

    @contextmanager
    def _scratch(self, name: str) -> Iterator[str]:
        self._databases.drop(name)
        self._databases.create(name)
        try:
            yield name
        finally:
            self._databases.drop(name)


def _run(backup: Backup, options: argparse.Namespace) -> None:
    keep, verify_every = timedelta(days=options.keep_days), timedelta(days=options.verify_days)
    backup.run(options.directory, options.database, keep=keep, verify_every=verify_every)


def _status(_backup: Backup, options: argparse.Namespace) -> None:
    is_checked = any(dump.is_verified for dump in dumps_of(options.directory, options.database))
    print("unchanged" if is_checked else f"changed: no dump of {options.database} was checked")


def _restore(backup: Backup, options: argparse.Namespace) -> None:
    dump = Dump.from_path(options.file)
    backup.restore(dump, options.database or dump.database, discard=options.discard)


def _database(text: str) -> str:
    if not _DATABASE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a database that is used here")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="backup", description="Dump and restore the database of dist_test.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="dump, check if due, delete old dumps")
    run.add_argument("--keep-days", type=int, required=True)
    run.add_argument("--verify-days", type=int, required=True)
    run.set_defaults(act=_run)
    status = commands.add_parser("status", help="say whether there is a dump that was checked")
    status.set_defaults(act=_status)
    for command in (run, status):
        command.add_argument("directory", type=Path)
        command.add_argument("database", type=_database)
    restore = commands.add_parser("restore", help="replace the database by a dump")
    restore.add_argument("--database", type=_database, help="another database than the one that was dumped")
    restore.add_argument("--discard", action="store_true", help="do not dump before what is there now")
    restore.add_argument("file", type=Path)
    restore.set_defaults(act=_restore)
    return parser


def main(words: Sequence[str]) -> int:
    options = _parser().parse_args(words)
    os.umask(0o077)
    try:
        options.act(Backup(Databases(), lambda: datetime.now(UTC)), options)
    except (BackupError, OSError) as exc:
        print(f"backup: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
