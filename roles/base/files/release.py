#!/usr/bin/python3
"""Install releases of dist_test side by side on this host, and say which one its services start from.

A release is a virtual environment /opt/dist_test/releases/RELEASE, whole when its file `.complete` is there; the link
/opt/dist_test/current names the one that services start from. A process keeps the release that it was started from.

    release [--check] install RELEASE WHEEL CONSTRAINTS [PIP ARGUMENT...]
    release [--check] link RELEASE                    point `current` at it
    release [--check] prune KEEP                      delete all but the newest KEEP, and those in use
    release activate [--url URL] RELEASE UNIT...      link, restart the units; back again if one is not healthy

Each prints "changed: why" or "unchanged", and exits with 0; with 1 and a message when it could not. One at a time works
on the host; the next waits for it.
"""

# ruff: noqa: T201  # a program: what it prints is its answer

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Protocol

ROOT = Path("/opt/dist_test")
EXTRAS = "master,isolate,slave"
MARKER = ".complete"
LOCK = Path("/run/dist_test-release.lock")
# A program that its settings stop ends within a second or two; gunicorn gives up on workers that do not boot in three.
STEADY = timedelta(seconds=5)
PATIENCE = timedelta(seconds=90)
PAUSE_SECONDS = 0.5
ANSWER_SECONDS = 5


class ReleaseError(Exception):
    """A release could not be installed, or does not work."""


class Releases:
    """The releases below a directory."""

    def __init__(self, root: Path, *, proc: Path = Path("/proc"), python: str = sys.executable) -> None:
        """`proc`: where processes are listed; `python`: the interpreter that releases are made with."""
        self._root = root
        self._proc = proc
        self._python = python

    def current(self) -> str | None:
        """The release that services start from."""
        try:
            return self._link.readlink().name
        except FileNotFoundError:
            return None

    def is_complete(self, release: str) -> bool:
        """Whether the release was installed to its end, by the Python that this host has now."""
        try:
            return (self._directory(release) / MARKER).read_text() == _MARK
        except FileNotFoundError:
            return False

    def install(self, release: str, wheel: Path, constraints: Path, pip_arguments: Sequence[str]) -> None:
        """Make the release's virtual environment anew. Raises ReleaseError with what pip said."""
        directory = self._directory(release)
        shutil.rmtree(directory, ignore_errors=True)
        _run([self._python, "-m", "venv", str(directory)])
        pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
        pip += ["--disable-pip-version-check", "--root-user-action=ignore", "--constraint", str(constraints)]
        _run([*pip, *pip_arguments, f"{wheel}[{EXTRAS}]"])
        # The marker may not outlive, in a loss of power, what it vouches for.
        os.sync()
        (directory / MARKER).write_text(_MARK)

    def link(self, release: str) -> None:
        """Let services start from the release. Raises ReleaseError when it is not complete."""
        if not self.is_complete(release):
            raise ReleaseError(f"release {release} is not completely installed; run `release install {release}` first")
        aside = self._root / "current.new"
        aside.unlink(missing_ok=True)
        aside.symlink_to(Path("releases") / release)
        aside.replace(self._link)

    def superfluous(self, keep: int) -> list[str]:
        """The releases beyond the newest `keep` that no link and no process needs."""
        newest_first = sorted(self._names(), key=self._age_key, reverse=True)
        needed = {*newest_first[:keep], self.current(), *self._in_use()}
        return sorted(name for name in newest_first if name not in needed)

    def delete(self, release: str) -> None:
        """Delete a release and the wheel that it was made from."""
        shutil.rmtree(self._directory(release))
        shutil.rmtree(self._root / "wheels" / release, ignore_errors=True)

    @property
    def _link(self) -> Path:
        return self._root / "current"

    def _directory(self, release: str) -> Path:
        return self._root / "releases" / release

    def _names(self) -> list[str]:
        return [path.name for path in (self._root / "releases").iterdir() if path.is_dir()]

    def _age_key(self, release: str) -> float:
        marker = self._directory(release) / MARKER
        return marker.stat().st_mtime if marker.exists() else 0

    def _in_use(self) -> set[str]:
        # The first line of a program in bin/ names the environment's own python, so that the command line does; a
        # program that is no script is found by what it executes.
        prefix = f"{self._root / 'releases'}/"
        texts = (text for process in self._proc.glob("[0-9]*") for text in _traces(process))
        return {text[len(prefix) :].split("/")[0] for text in texts if text.startswith(prefix)}


def _traces(process: Path) -> Iterable[str]:
    try:
        words = (process / "cmdline").read_text(errors="replace").split("\0")
        return [*words, str((process / "exe").readlink())]
    except OSError:  # it ended, or is a kernel's thread
        return []


# What is installed for one Python is invisible to the next one after an upgrade of Debian.
_MARK = f"python {sys.version_info.major}.{sys.version_info.minor}\n"


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise ReleaseError(f"`{' '.join(command)}` ended with {done.returncode}:\n{done.stdout}")


class Services(Protocol):
    """What `activate` needs of the services."""

    def restart(self, unit: str, link: Path) -> None:
        """Run the unit from where `link` points now. Raises ReleaseError when it does not start."""

    def await_health(self, unit: str) -> None:
        """Return when the unit has been up for STEADY. Raises ReleaseError when that takes longer than PATIENCE."""

    def await_answer(self, url: str) -> None:
        """Return when the URL answers. Raises ReleaseError when that takes longer than PATIENCE."""


class HostServices:
    """The services of this host."""

    def restart(self, unit: str, link: Path) -> None:
        service = Path(__file__).with_name("service")
        _run([str(service), unit, str(link)])

    def await_health(self, unit: str) -> None:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        seen, since = "", time.monotonic()
        while time.monotonic() < deadline:
            now = self._run_of(unit)
            if now != seen:
                seen, since = now, time.monotonic()
            if seen and time.monotonic() - since >= STEADY.total_seconds():
                return
            time.sleep(PAUSE_SECONDS)
        raise ReleaseError(f"{unit} does not stay up; see `journalctl --unit={unit}`")

    def await_answer(self, url: str) -> None:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while True:
            try:
                with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):
                    return
            except OSError as exc:
                if time.monotonic() > deadline:
                    raise ReleaseError(f"{url} does not answer: {exc}") from exc
            time.sleep(PAUSE_SECONDS)

    def _run_of(self, unit: str) -> str:
        # systemd gives each start of a unit an id of its own; empty when it is not active.
        command = ["systemctl", "show", "--property=ActiveState,InvocationID", "--", unit]
        shown = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        properties = dict(line.split("=", 1) for line in shown.splitlines())
        return properties["InvocationID"] if properties["ActiveState"] == "active" else ""


def activate(
    releases: Releases, services: Services, release: str, units: Sequence[str], urls: Sequence[str], link: Path
) -> bool:
    """Run the units from the release; say whether it is another one than before.

    Raises ReleaseError when one of the units does not stay up or a URL does not answer; then they run from the release
    before again.
    """
    before = releases.current()
    if before != release:
        releases.link(release)
    try:
        _run_from(services, units, urls, link)
    except ReleaseError as exc:
        if before is None or before == release:
            raise
        releases.link(before)
        _run_from(services, units, urls, link)
        raise ReleaseError(f"went back to {before}, as {release} does not work: {exc}") from exc
    return before != release


def _run_from(services: Services, units: Sequence[str], urls: Sequence[str], link: Path) -> None:
    for unit in units:
        services.restart(unit, link)
    for unit in units:
        services.await_health(unit)
    for url in urls:
        services.await_answer(url)


def _install(releases: Releases, options: argparse.Namespace) -> str | None:
    if releases.is_complete(options.release):
        return None
    if not options.check:
        releases.install(options.release, options.wheel, options.constraints, options.pip_arguments)
    return f"installed {options.release}"


def _link(releases: Releases, options: argparse.Namespace) -> str | None:
    if releases.current() == options.release:
        return None
    if not options.check:
        releases.link(options.release)
    return f"linked {options.release}"


def _prune(releases: Releases, options: argparse.Namespace) -> str | None:
    superfluous = releases.superfluous(options.keep)
    for release in [] if options.check else superfluous:
        releases.delete(release)
    return f"deleted {', '.join(superfluous)}" if superfluous else None


def _activate(releases: Releases, options: argparse.Namespace) -> str | None:
    if options.check:
        return _link(releases, options)
    is_new = activate(releases, HostServices(), options.release, options.units, options.url, ROOT / "current")
    return f"runs from {options.release}" if is_new else None


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold the lock. Another deployment would delete the environment that this one is filling."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="release", description="Install and choose releases of dist_test.")
    parser.add_argument("--check", action="store_true", help="change nothing, say what would be changed")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    install = commands.add_parser("install", help="make a release's virtual environment")
    install.add_argument("release")
    install.add_argument("wheel", type=Path)
    install.add_argument("constraints", type=Path)
    install.add_argument("pip_arguments", nargs=argparse.REMAINDER, metavar="PIP ARGUMENT")
    install.set_defaults(act=_install)
    link = commands.add_parser("link", help="let services start from a release")
    link.add_argument("release")
    link.set_defaults(act=_link)
    prune = commands.add_parser("prune", help="delete old releases")
    prune.add_argument("keep", type=int, help="how many of the newest stay")
    prune.set_defaults(act=_prune)
    activate = commands.add_parser("activate", help="run units from a release, or go back")
    activate.add_argument("--url", action="append", default=[], help="address that must answer afterwards")
    activate.add_argument("release")
    activate.add_argument("units", nargs="+", metavar="UNIT")
    activate.set_defaults(act=_activate)
    return parser


def main(words: Sequence[str]) -> int:
    options = _parser().parse_args(words)
    # Services read what is installed here as another user.
    os.umask(0o022)
    try:
        with nullcontext() if options.check else alone(LOCK):
            reason = options.act(Releases(ROOT, python="/usr/bin/python3"), options)
    except ReleaseError as exc:
        print(f"release: {exc}", file=sys.stderr)
        return 1
    print(f"changed: {reason}" if reason else "unchanged")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
