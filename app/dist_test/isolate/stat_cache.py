"""Digests of files that have not changed since they were hashed, kept between runs."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dist_test.errors import IsolateError
from dist_test.isolate.digest import digest_stream

logger = logging.getLogger(__name__)

_YOUNG_NS = 2 * 10**9  # a file may be written twice within the resolution of its times: FAT's is 2 s
_GROUP = 64  # files that a thread hashes at a time
_LOCK_SECONDS = 5
_FORMAT = 1


class Stamp(NamedTuple):
    """What changes when a file's content does."""

    size_bytes: int
    mtime_ns: int
    inode: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "Stamp":
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)


class Hashed(NamedTuple):
    """A file's digest, the stamp that it had, and whether the stamp will tell if it changes."""

    digest: str
    stamp: Stamp
    is_settled: bool


class StatCache:
    """Knows the digests of files by their stamps. Losing it costs only time, so nothing about it is an error."""

    def __init__(self, path: Path | None) -> None:
        """Use the database at `path`, made if need be; None: remember nothing."""
        self._database = None if path is None else _open(path)

    def digests(self, files: Sequence[tuple[str, os.stat_result]]) -> dict[str, str]:
        """The digests of these files, given with what stat says about each; hashes those that it does not know.

        Raises IsolateError for a file that cannot be read.
        """
        stamps = {path: Stamp.of(found) for path, found in files}
        known = self._known(stamps)
        unknown = [path for path in stamps if path not in known]
        hashed = _hash_all(unknown)
        self._remember((path, result) for path, result in hashed.items() if result.is_settled)
        return known | {path: result.digest for path, result in hashed.items()}

    def close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _known(self, stamps: dict[str, Stamp]) -> dict[str, str]:
        if self._database is None:
            return {}
        known = {}
        try:
            look = self._database.cursor().execute
            for path, stamp in stamps.items():
                row = look(
                    "SELECT size, mtime_ns, inode, ctime_ns, digest FROM files WHERE path = ?", (_key(path),)
                ).fetchone()
                if row is not None and row[:4] == stamp:
                    known[path] = row[4]
        except sqlite3.Error as exc:
            logger.debug("the cache of digests cannot be read: %s", exc)
        return known

    def _remember(self, hashed: Iterable[tuple[str, Hashed]]) -> None:
        if self._database is None:
            return
        rows = [(_key(path), *result.stamp, result.digest) for path, result in hashed]
        try:
            with self._database:
                self._database.executemany("REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as exc:
            logger.debug("the cache of digests cannot be written: %s", exc)


def default_path() -> Path:
    """$XDG_CACHE_HOME/dist_test/digests.sqlite."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home, "dist_test", "digests.sqlite")


def hash_file(path: str) -> Hashed:
    """Hash one file. Raises IsolateError when it cannot be read, or changes again and again while it is."""
    for _ in range(3):
        started_ns = time.time_ns()
        try:
            with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 -- a text
                before = Stamp.of(os.fstat(stream.fileno()))
                digest = digest_stream(stream)
                after = Stamp.of(os.fstat(stream.fileno()))
        except OSError as exc:
            raise IsolateError(f"{path} cannot be read: {exc.strerror}") from exc
        if before == after:
            return Hashed(digest, after, after.mtime_ns < started_ns - _YOUNG_NS)
    raise IsolateError(f"{path} keeps changing while it is read; archive again when whatever writes it is done")


def _hash_all(paths: Sequence[str]) -> dict[str, Hashed]:
    groups = [paths[start : start + _GROUP] for start in range(0, len(paths), _GROUP)]
    if len(groups) < 2:
        return {path: hash_file(path) for path in paths}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = [
            result for group in pool.map(lambda group: [hash_file(path) for path in group], groups) for result in group
        ]
    return dict(zip(paths, results, strict=True))


def _open(path: Path) -> sqlite3.Connection | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _prepare_anew_if_damaged(path)
    except (OSError, sqlite3.Error) as exc:
        logger.debug("working without a cache of digests: %s", exc)
        return None


def _prepare_anew_if_damaged(path: Path) -> sqlite3.Connection:
    try:
        return _prepare(path)
    except sqlite3.OperationalError:
        raise  # it cannot be opened or written, or another program has it locked: no reason to remove it
    except sqlite3.DatabaseError:
        path.unlink()
        return _prepare(path)


def _prepare(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_LOCK_SECONDS)
    try:
        # It may be lost with the power; then the files are hashed again.
        database.execute("PRAGMA synchronous = OFF")
        if database.execute("PRAGMA user_version").fetchone()[0] != _FORMAT:
            database.execute("DROP TABLE IF EXISTS files")
            database.execute(
                "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER,"
                " inode INTEGER, ctime_ns INTEGER, digest TEXT) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {_FORMAT}")
            database.commit()
    except sqlite3.Error:
        database.close()
        raise
    return database


def _key(path: str) -> bytes:
    # SQLite's texts are UTF-8; names on a disk need not be.
    return os.fsencode(path)
