#!/usr/bin/python3
"""What an upgrade of this host can go back to, as long as the upgrade is under way.

    fallback keep RELEASE      before the host moves to RELEASE: keep its files, and which release it runs from
    fallback back RELEASE      put back what was kept before the move to RELEASE, and restart what read it
    fallback forget            the upgrade is over: delete what was kept, and this program

A release and the files that its roles wrote belong together: the one before may not know a setting of the new one.
`back` leaves the database's schema as it is, which serves the release before. Each prints "changed: why" or
"unchanged", and exits with 0; with 1 and a message when it could not.
"""

# ruff: noqa: T201  # a program: what it prints is its answer

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

# What roles write for dist_test. Not what they write for MariaDB and beanstalkd, which have no release of dist_test.
KEPT = (
    "etc/dist_test",
    "etc/nginx/conf.d/dist_test.conf",
    "etc/systemd/system/dist-test-*",
    "etc/systemd/system/nginx.service.d",
    "usr/local/lib/dist_test",
)
LIBRARY = Path("/usr/local/lib/dist_test")
CURRENT = Path("/opt/dist_test/current")
NGINX = "nginx.service"


class FallbackError(Exception):
    """The host could not be brought back."""


class Fallback:
    """The files of a host below `root`, and what is kept of them in `opt/dist_test/kept`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._home = root / "opt/dist_test"

    def keep(self, release: str) -> bool:
        """Keep what is there now, unless it was kept before; the release from before becomes the youngest."""
        kept = self._kept(release)
        if kept.exists():
            return False
        before = self.current()
        if before:
            # `release prune` deletes the oldest ones.
            os.utime(self._home / "releases" / before / ".complete")
        aside = kept.with_name(f"{release}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True, mode=0o700)
        for file in self._files(self._root):
            _copy(self._root / file, aside / "files" / file)
        (aside / "release").write_text(before or "")
        aside.rename(kept)
        return True

    def differing(self, release: str) -> list[Path]:
        """Absolute paths that are not as they were kept; also those that are new since."""
        kept = self._kept(release) / "files"
        then, now = set(self._files(kept)), set(self._files(self._root))
        changed = {file for file in then & now if not _are_equal(kept / file, self._root / file)}
        return sorted(self._root / file for file in (then ^ now) | changed)

    def put_back(self, release: str) -> list[Path]:
        """Make the files what they were; those that had to change."""
        differing = self.differing(release)
        for path in differing:
            kept = self._kept(release) / "files" / path.relative_to(self._root)
            if kept.exists():
                _copy(kept, path)
            else:
                path.unlink()
        return differing

    def before(self, release: str) -> str:
        """The release from before the move to this one; '' for a host that had none."""
        return (self._kept(release) / "release").read_text()

    def is_kept(self, release: str) -> bool:
        return self._kept(release).exists()

    def drop(self, release: str) -> None:
        shutil.rmtree(self._kept(release))

    def forget(self) -> None:
        shutil.rmtree(self._home / "kept", ignore_errors=True)

    def current(self) -> str | None:
        """The release that services start from."""
        link = self._home / "current"
        return link.readlink().name if link.is_symlink() else None

    def _kept(self, release: str) -> Path:
        return self._home / "kept" / release

    def _files(self, top: Path) -> Iterator[Path]:
        for pattern in KEPT:
            for found in top.glob(pattern):
                files = found.rglob("*") if found.is_dir() else [found]
                yield from (file.relative_to(top) for file in files if file.is_file())


def _are_equal(one: Path, other: Path) -> bool:
    return _identity(one) == _identity(other)


def _identity(path: Path) -> tuple[int, int, int, bytes]:
    status = path.stat()
    return status.st_mode, status.st_uid, status.st_gid, path.read_bytes()


def _copy(source: Path, target: Path) -> None:
    """Write the file aside with the same owner and mode, then give it its name: there is no moment without it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.new")
    shutil.copy2(source, aside)
    os.chown(aside, source.stat().st_uid, source.stat().st_gid)
    aside.rename(target)


def files_of(unit_text: str, changed: Sequence[Path]) -> list[str]:
    """Those of the changed files that a unit names, and so reads."""
    return [str(path) for path in changed if str(path) in unit_text]


def _back(fallback: Fallback, release: str) -> str | None:
    if not fallback.is_kept(release):
        return None
    before, was = fallback.before(release), fallback.current()
    _disable([path for path in fallback.differing(release) if not _existed(fallback, path, release)])
    changed = fallback.put_back(release)
    if before and before != was:
        _run(LIBRARY / "release", "link", before)
    # Units that changed in nothing are left alone by `service`.
    for unit in _enabled_units():
        text = _run("systemctl", "cat", "--", unit)
        _run(LIBRARY / "service", unit, *files_of(text, [*changed, CURRENT]))
    if changed:
        _run_nginx()
    fallback.drop(release)
    return f"runs from {before} again" if changed or before != (was or "") else None


def _existed(fallback: Fallback, path: Path, release: str) -> bool:
    return (fallback._kept(release) / "files" / path.relative_to("/")).exists()


def _disable(new: Sequence[Path]) -> None:
    """Stop the units that came with the release that is left."""
    units = [path.name for path in new if path.parent.name == "system" and path.suffix in (".service", ".timer")]
    if units:
        _run("systemctl", "disable", "--now", "--quiet", "--", *units)


def _enabled_units() -> list[str]:
    listed = _run(
        "systemctl", "list-unit-files", "--no-legend", "--plain", "--state=enabled", "dist-test-*.service", "*.timer"
    )
    return [line.split()[0] for line in listed.splitlines() if line.startswith("dist-test-")]


def _run_nginx() -> None:
    site = Path("/etc/nginx/conf.d/dist_test.conf")
    if site.exists():
        _run(LIBRARY / "service", NGINX, str(site))


def _run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FallbackError(f"`{' '.join(map(str, words))}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def _act(options: argparse.Namespace) -> str | None:
    fallback = Fallback()
    if options.command == "keep":
        return "kept what is there" if fallback.keep(options.release) else None
    if options.command == "back":
        return _back(fallback, options.release)
    fallback.forget()
    return "forgot what was there before"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="fallback", description="Keep what an upgrade of this host can go back to.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (("keep", "keep what is there"), ("back", "put back what was kept")):
        commands.add_parser(name, help=what).add_argument("release", help="the release that the host moves to")
    commands.add_parser("forget", help="delete what was kept")
    os.umask(0o022)
    try:
        reason = _act(parser.parse_args(words))
    except (FallbackError, OSError) as exc:
        print(f"fallback: {exc}", file=sys.stderr)
        return 1
    print(f"changed: {reason}" if reason else "unchanged")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
