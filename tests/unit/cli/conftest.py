"""A fake master, and the command line as its users run it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dist_test.cli.main import main
from tests.fakes.master import FakeMaster


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command printed and how it exited."""

    status: int
    stdout: str
    stderr: str


RunCli = Callable[..., Ran]


@pytest.fixture
def master() -> Iterator[FakeMaster]:
    fake = FakeMaster()
    fake.start()
    yield fake
    fake.stop()
    assert fake.violations == []


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with nothing in it, an environment that says nothing, a working directory of its own."""
    directory = tmp_path / "home"
    work = tmp_path / "work"
    directory.mkdir()
    work.mkdir()
    for name in ("CNF", "MASTER", "JOB_PATH", "USER", "PASSWORD", "URL_TIMEOUT"):
        monkeypatch.delenv(f"DIST_TEST_{name}", raising=False)
    for name in ("ISOLATE_SERVER", "ISOLATE_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("LOGNAME", "ada.l")
    monkeypatch.chdir(work)
    return directory


@pytest.fixture
def last_job(home: Path) -> Path:
    """The file that remembers the last job."""
    return home / ".dist-test-last-job"


@pytest.fixture
def run_alone(home: Path, capfd: pytest.CaptureFixture[str]) -> RunCli:
    """Runs `dist-test` with no master configured."""

    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as exited:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ran(status=int(exited.value.code or 0), stdout=captured.out, stderr=captured.err)

    return run


@pytest.fixture
def run_cli(run_alone: RunCli, master: FakeMaster, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Runs `dist-test` with the fake master configured."""
    monkeypatch.setenv("DIST_TEST_MASTER", master.url)
    return run_alone
