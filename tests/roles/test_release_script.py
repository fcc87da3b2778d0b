"""Releases side by side: the command `release` of the role base, in a directory of the test's own."""

import fcntl
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from roles.base.files.release import ReleaseError, Releases, activate, alone, main

OLD, NEW = "0.1.0-aaaaaaaaaaaa", "0.2.0-bbbbbbbbbbbb"
UNITS = ("dist-test-master.service", "dist-test-isolate.service")
URL = "http://10.0.0.1:8081/"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc"


@pytest.fixture
def releases(tmp_path: Path, proc: Path) -> Releases:
    (tmp_path / "releases").mkdir()
    return Releases(tmp_path, proc=proc, python=sys.executable)


def put_release(root: Path, name: str, *, age: int = 0) -> None:
    """A release that counts as installed, `age` days ago."""
    directory = root / "releases" / name
    directory.mkdir()
    marker = directory / ".complete"
    marker.write_text(f"python {sys.version_info.major}.{sys.version_info.minor}\n")
    os.utime(marker, (1_700_000_000 - age * 86400,) * 2)
    (root / "wheels" / name).mkdir(parents=True)


def put_process(proc: Path, number: int, command: Sequence[str], exe: Path) -> None:
    directory = proc / str(number)
    directory.mkdir()
    (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in command))
    (directory / "exe").symlink_to(exe)


def write_wheel(directory: Path) -> Path:
    """The smallest wheel that pip takes."""
    path = directory / "nothing-1.0-py3-none-any.whl"
    texts = {
        "METADATA": "Metadata-Version: 2.1\nName: nothing\nVersion: 1.0\n"
        "Provides-Extra: master\nProvides-Extra: isolate\nProvides-Extra: slave\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in texts.items():
            archive.writestr(f"nothing-1.0.dist-info/{name}", text)
    return path


def test_an_installation_that_broke_off_is_done_again(releases: Releases, tmp_path: Path) -> None:
    leftover = tmp_path / "releases" / NEW / "half"
    leftover.mkdir(parents=True)
    assert not releases.is_complete(NEW)
    with pytest.raises(ReleaseError, match="not completely installed"):
        releases.link(NEW)
    (tmp_path / "constraints.txt").write_text("")
    releases.install(NEW, write_wheel(tmp_path), tmp_path / "constraints.txt", ["--no-index"])
    assert releases.is_complete(NEW)
    assert not leftover.exists()


def test_what_failed_is_told(tmp_path: Path) -> None:
    releases = Releases(tmp_path, python="/bin/false")
    with pytest.raises(ReleaseError, match=r"/bin/false -m venv .+ ended with 1"):
        releases.install(NEW, tmp_path / "a.whl", tmp_path / "constraints.txt", [])


def test_an_installation_for_another_python_does_not_count(releases: Releases, tmp_path: Path) -> None:
    put_release(tmp_path, OLD)
    (tmp_path / "releases" / OLD / ".complete").write_text("python 3.9\n")
    assert not releases.is_complete(OLD)


def test_the_link_moves_to_another_release(releases: Releases, tmp_path: Path) -> None:
    put_release(tmp_path, OLD)
    put_release(tmp_path, NEW)
    assert releases.current() is None
    releases.link(OLD)
    (tmp_path / "current.new").symlink_to("releases/left-by-a-run-that-was-killed")
    releases.link(NEW)
    assert releases.current() == NEW
    assert (tmp_path / "current" / ".complete").exists()


def test_the_newest_and_those_in_use_stay(releases: Releases, proc: Path, tmp_path: Path) -> None:
    for age in range(7):
        put_release(tmp_path, f"r{age}", age=age)
    releases.link("r6")
    root = tmp_path / "releases"
    put_process(
        proc, 100, [f"{root}/r4/bin/python", "/opt/dist_test/current/bin/dist-test-slave"], Path("/usr/bin/python3.11")
    )
    put_process(proc, 101, ["weed", "server"], root / "r5" / "bin" / "weed")
    put_process(proc, 102, ["less", "/var/log/r3"], Path("/usr/bin/less"))
    (proc / "103").mkdir()  # ended meanwhile
    assert releases.superfluous(2) == ["r2", "r3"]


def test_what_was_never_finished_goes_first(releases: Releases, tmp_path: Path) -> None:
    put_release(tmp_path, OLD, age=100)
    (tmp_path / "releases" / NEW).mkdir()
    assert releases.superfluous(1) == [NEW]


def test_a_release_goes_with_its_wheel(releases: Releases, tmp_path: Path) -> None:
    put_release(tmp_path, OLD)
    releases.delete(OLD)
    assert not (tmp_path / "releases" / OLD).exists()
    assert not (tmp_path / "wheels" / OLD).exists()


class FakeServices:
    """Units that stay up with every release but one, and a URL that does not answer with another one."""

    def __init__(self, releases: Releases, *, down_with: str = "", silent_with: str = "") -> None:
        self._releases = releases
        self._down_with = down_with
        self._silent_with = silent_with
        self.runs_from: dict[str, str | None] = {}

    def restart(self, unit: str, link: Path) -> None:
        self.runs_from[unit] = self._releases.current()

    def await_health(self, unit: str) -> None:
        if self.runs_from[unit] == self._down_with:
            raise ReleaseError(f"{unit} does not stay up")

    def await_answer(self, url: str) -> None:
        if self._releases.current() == self._silent_with:
            raise ReleaseError(f"{url} does not answer")


@pytest.fixture
def both(releases: Releases, tmp_path: Path) -> Releases:
    """Two releases, of which the old one is current."""
    put_release(tmp_path, OLD, age=1)
    put_release(tmp_path, NEW)
    releases.link(OLD)
    return releases


def test_units_run_from_the_release_that_is_activated(both: Releases, tmp_path: Path) -> None:
    services = FakeServices(both)
    assert activate(both, services, NEW, UNITS, [URL], tmp_path / "current")
    assert (both.current(), services.runs_from) == (NEW, dict.fromkeys(UNITS, NEW))


def test_activating_what_is_active_is_no_change(both: Releases, tmp_path: Path) -> None:
    assert not activate(both, FakeServices(both), OLD, UNITS, [], tmp_path / "current")


@pytest.mark.parametrize("fault", ["down_with", "silent_with"])
def test_a_release_that_does_not_work_is_left_again(both: Releases, tmp_path: Path, fault: str) -> None:
    services = FakeServices(both, **{fault: NEW})
    with pytest.raises(ReleaseError, match=f"went back to {OLD}"):
        activate(both, services, NEW, UNITS, [URL], tmp_path / "current")
    assert (both.current(), services.runs_from) == (OLD, dict.fromkeys(UNITS, OLD))


def test_without_a_release_before_there_is_no_way_back(releases: Releases, tmp_path: Path) -> None:
    put_release(tmp_path, NEW)
    with pytest.raises(ReleaseError, match="does not stay up"):
        activate(releases, FakeServices(releases, down_with=NEW), NEW, UNITS, [], tmp_path / "current")


def test_a_release_that_is_not_installed_changes_nothing(both: Releases, tmp_path: Path) -> None:
    services = FakeServices(both)
    with pytest.raises(ReleaseError, match="not completely installed"):
        activate(both, services, "0.3.0-cccccccccccc", UNITS, [], tmp_path / "current")
    assert both.current() == OLD
    assert services.runs_from == {}


def test_a_second_deployment_waits_for_the_first(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as second:
        with alone(tmp_path / "lock"), pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_bad_command_line_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["activate", NEW])
