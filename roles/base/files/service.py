#!/usr/bin/python3
"""Make a systemd unit run with what its files say now: `service [--check] [--reload] UNIT FILE...`.

Enables and starts the unit, and restarts it when one of FILES, its unit file or a drop-in changed after it was started;
of a symbolic link, the link itself counts. With --reload, one of FILES that changed after the last reload only reloads
the unit; one whose reload fails is restarted. Prints "changed: why" or "unchanged", and exits with 0. Exits with 1, and
the end of the unit's journal, when the unit is not active afterwards; waits 60 s for one that is starting, and for one
that is stopping first as long as its TimeoutStopSec= allows.

--check changes nothing, and says what would. Not for units that do their work and end (oneshot without
RemainAfterExit). A unit whose conditions do not hold, as of time synchronization in a container, is left alone.
"""

# ruff: noqa: T201  # a program: what it prints is its answer

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

PATIENCE = timedelta(seconds=60)
PAUSE_SECONDS = 0.2
JOURNAL_LINES = 20
UNIT_DIRECTORY = Path("/etc/systemd/system")
RUNNING = ("active", "reloading", "refreshing")
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "FragmentPath",
    "DropInPaths",
    "InactiveExitTimestamp",
    "ConditionResult",
    "ConditionTimestamp",
    "StateChangeTimestamp",
    "ReloadResult",
    "Job",
)


class ServiceError(Exception):
    """The unit does not run as its files say."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What systemd knows of a unit. `started` is None for one that has not been started since boot.

    `loaded` is when it read its configuration last, in a start or a reload; None where that is not known.
    """

    name: str
    load: str
    active: str
    enablement: str
    is_outdated: bool
    files: tuple[Path, ...]
    started: datetime | None
    loaded: datetime | None
    is_skipped: bool
    has_job: bool

    @classmethod
    def from_properties(cls, name: str, properties: Mapping[str, str], drop_ins: Iterable[Path]) -> "Unit":
        """Read what `systemctl show --timestamp=us+utc` printed; `drop_ins` are those on disk."""
        files = [Path(file) for file in [properties["FragmentPath"], *properties["DropInPaths"].split()] if file]
        was_tried = _time(properties["ConditionTimestamp"]) is not None
        return cls(
            name=name,
            load=properties["LoadState"],
            active=properties["ActiveState"],
            enablement=properties["UnitFileState"],
            # Of a directory of drop-ins that is new, systemd does not say that it has not read it.
            is_outdated=properties["NeedDaemonReload"] == "yes" or not set(drop_ins) <= set(files),
            files=tuple(files),
            started=_time(properties["InactiveExitTimestamp"]),
            # A unit that runs changes its state for nothing but a reload; one that failed has read nothing.
            loaded=_time(properties["StateChangeTimestamp"]) if properties.get("ReloadResult") == "success" else None,
            is_skipped=was_tried and properties["ConditionResult"] == "no",
            has_job=properties["Job"] not in ("", "0"),
        )

    @property
    def is_running(self) -> bool:
        return self.active in RUNNING

    @property
    def is_stopping(self) -> bool:
        """Whether it has yet to stop, or has stopped, for a start that systemd has in hand."""
        return self.has_job and self.active in ("deactivating", "inactive")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do with a unit, and why in words; nothing is to do when there are no reasons."""

    enable: bool = False
    reset_failed: bool = False
    start: bool = False
    restart: bool = False
    reload: bool = False
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"changed: {', '.join(self.reasons)}" if self.reasons else "unchanged"


Changes = Mapping[Path, datetime | None]  # when files changed last; None for one that is not there yet


def decide(unit: Unit, changes: Changes, rereads: Changes | None = None) -> Decision:
    """Compare a unit with the times at which its files changed last; `rereads` are those for which it can be reloaded.

    Raises ServiceError for a unit that is masked: somebody did not want it to run.
    """
    if unit.load == "masked":
        raise ServiceError(f"{unit.name} is masked; say `systemctl unmask {unit.name}` if it is to run")
    enable = unit.enablement in ("disabled", "enabled-runtime")
    reasons = ["enabled"] if enable else []
    # One that is "activating" may wait for its next try with what an older file said.
    is_started = unit.is_running or unit.active == "activating"
    if not unit.is_running:
        changes, rereads = {**changes, **(rereads or {})}, {}
    why = _why_restart(unit, changes) if is_started else None
    why_reload = _newer(rereads or {}, unit.loaded or unit.started, "read") if not why else None
    if why:
        reasons.append(f"restarted because {why}")
    if why_reload:
        reasons.append(f"reloaded because {why_reload}")
    start = not is_started and (unit.is_outdated or not unit.is_skipped)
    if start:
        reasons.append(f"started, as it was {unit.active}")
    return Decision(
        enable=enable,
        reset_failed=unit.active == "failed",
        start=start,
        restart=why is not None,
        reload=why_reload is not None,
        reasons=tuple(reasons),
    )


def _why_restart(unit: Unit, changes: Changes) -> str | None:
    if unit.is_outdated:
        return "its unit file or a drop-in changed"
    return _newer(changes, unit.started, "started")


def _newer(changes: Changes, moment: datetime | None, what: str) -> str | None:
    for file, changed in changes.items():
        if changed is None:
            return f"{file} is not there yet"
        if moment is not None and changed > moment:
            return f"{file} changed after it was {what}"
    return None


def _time(text: str) -> datetime | None:
    # "Tue 2026-11-24 13:57:22.123456 UTC"; empty, "n/a" or 0 for never.
    words = text.split()
    if len(words) != 4:
        return None
    moment = datetime.fromisoformat(f"{words[1]} {words[2]}")
    return moment.replace(tzinfo=UTC)


def changed_at(file: Path) -> datetime | None:
    """When the file's content, owner or mode changed last; None when it is not there.

    The inode's time rather than the content's: putting back an old file with `cp -p` is a change too.
    """
    try:
        return datetime.fromtimestamp(file.lstat().st_ctime, tz=UTC)
    except FileNotFoundError:
        return None


def drop_ins_of(name: str, directory: Path = UNIT_DIRECTORY) -> list[Path]:
    """The drop-ins that an administrator gave the unit; a link to nowhere switches one off."""
    found = sorted((directory / f"{name}.d").glob("*.conf"))
    return [file for file in found if file.resolve() != Path("/dev/null")]


class Systemd:
    """The systemd of this host."""

    def read(self, name: str) -> Unit:
        """Say how the unit stands now."""
        done = self._systemctl("show", "--timestamp=us+utc", f"--property={','.join(PROPERTIES)}", "--", name)
        lines = (line.partition("=") for line in done.stdout.splitlines())
        return Unit.from_properties(name, {key: value for key, _, value in lines}, drop_ins_of(name))

    def apply(self, name: str, decision: Decision) -> None:
        """Do what was decided; waits for the unit to stop and start, but not longer than PATIENCE.

        A unit that cannot be reloaded is restarted, as when its configuration has it listen on a port anew.
        """
        # Always: a timer does not say that its service's file changed.
        self._systemctl("daemon-reload")
        if decision.enable:
            self._systemctl("enable", "--quiet", "--", name)
        if decision.reset_failed:
            # One that hit its start limit would be refused.
            self._systemctl("reset-failed", "--", name)
        is_reloaded = decision.reload and self._run_job("reload", name)
        if decision.start:
            self._run_job("start", name)
        elif decision.restart or (decision.reload and not is_reloaded):
            self._run_job("restart", name)

    def journal(self, name: str) -> str:
        """The last lines that the unit logged."""
        command = ["journalctl", "--no-pager", f"--lines={JOURNAL_LINES}", f"--unit={name}"]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout

    def _run_job(self, verb: str, name: str) -> bool:
        # Neither a failed try nor a slow one is the end: Restart= tries again, and whoever called looks at the state.
        command = ["systemctl", verb, "--", name]
        try:
            done = subprocess.run(command, check=False, timeout=PATIENCE.total_seconds(), stderr=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def _systemctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServiceError(f"`systemctl {' '.join(words)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done


class Service:
    """Brings one unit after the other to what its files say; with `reloads`, by a reload where that will do."""

    def __init__(
        self, systemd: Systemd, *, clock: Callable[[], float], sleep: Callable[[float], None], reloads: bool = False
    ) -> None:
        self._systemd = systemd
        self._reloads = reloads
        self._clock = clock
        self._sleep = sleep

    def check(self, name: str, files: Sequence[Path]) -> Decision:
        """Say what `ensure` would do; a file or a unit that is not there yet is a reason to do something."""
        unit = self._systemd.read(name)
        own, named = ({file: changed_at(file) for file in group} for group in (unit.files, files))
        return decide(unit, own, named) if self._reloads else decide(unit, {**own, **named})

    def ensure(self, name: str, files: Sequence[Path]) -> Decision:
        """Enable, start or restart the unit where needed, and say what was done.

        Raises ServiceError when the unit is not active within PATIENCE after it has stopped, or when one of the files
        is not there.
        """
        if missing := [str(file) for file in files if changed_at(file) is None]:
            raise ServiceError(f"{', '.join(missing)} is not there, but {name} is to run with what it says")
        deadline = self._clock() + PATIENCE.total_seconds()
        decision = self.check(name, files)
        if decision.reasons:
            self._systemd.apply(name, decision)
        self._wait(name, deadline)
        return decision

    def _wait(self, name: str, deadline: float) -> None:
        while not (unit := self._systemd.read(name)).is_running and not unit.is_skipped:
            if unit.is_stopping:
                # A slave that drains before its restart; how long that may take, its TimeoutStopSec= says.
                deadline = self._clock() + PATIENCE.total_seconds()
            elif unit.active != "activating" or self._clock() > deadline:
                raise ServiceError(f"{name} is {unit.active}, not active:\n{self._systemd.journal(name)}")
            self._sleep(PAUSE_SECONDS)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="service", description="Make a systemd unit run with what its files say now.")
    parser.add_argument("--check", action="store_true", help="change nothing, say what would be changed")
    parser.add_argument("--reload", action="store_true", help="the unit reads FILEs anew when it is reloaded")
    parser.add_argument("unit", help="name of the unit, with its kind: nginx.service")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="file that the unit reads when it starts")
    options = parser.parse_args(words)
    service = Service(Systemd(), clock=time.monotonic, sleep=time.sleep, reloads=options.reload)
    try:
        print((service.check if options.check else service.ensure)(options.unit, options.files))
    except ServiceError as exc:
        print(f"service: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
