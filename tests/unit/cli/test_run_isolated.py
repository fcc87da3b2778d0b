"""`run-isolated`: real processes, files from a cache that holds everything already."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dist_test.isolate.cache import BlobCache, CacheLimits
from dist_test.isolate.digest import digest_bytes
from tests.readable import copy_packages
from tests.unit.cli.conftest import Ran, RunCli

NOWHERE = "http://127.0.0.1:1"
NOBODY = 65534
SCRIPT = b"""#!/bin/sh
echo "$@" from $(pwd | sed 's,.*/,,')
echo trouble >&2
echo changed >> data.txt
case $1 in die) kill -SEGV $$ ;; esac
exit ${1:-0}
"""


class Blobs:
    """A store of blobs in memory, for the cache to fetch from."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def add(self, content: bytes) -> str:
        digest = digest_bytes(content)
        self.contents[digest] = content
        return digest

    def fetch(self, digest: str, destination: Path, *, size_bytes: int | None = None) -> int:
        content = self.contents[digest]
        assert size_bytes in (None, len(content))
        return destination.write_bytes(content)


@pytest.fixture
def cache_dir() -> Iterator[Path]:
    # Not tmp_path, which other users cannot enter.
    directory = Path(tempfile.mkdtemp(prefix="dist-test-cache-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def package(cache_dir: Path) -> Callable[..., str]:
    """Packages the script with a command, has it in the cache, and gives its hash."""
    blobs = Blobs()
    cache = BlobCache(cache_dir, blobs, CacheLimits(max_bytes=2**30, min_free_bytes=0, max_items=1000))

    def make(*command: str) -> str:
        files = {
            "bin/test.sh": {"h": blobs.add(SCRIPT), "s": len(SCRIPT), "m": 0o755},
            "bin/data.txt": {"h": blobs.add(b"data\n"), "s": 5, "m": 0o444},
            "bin/link": {"l": "data.txt"},
        }
        document = {"algo": "sha-1", "version": "1.4", "files": files, "relative_cwd": "bin"}
        digest = blobs.add(json.dumps(document | ({"command": list(command)} if command else {})).encode())
        with cache.checkout(digest):
            return digest

    return make


@pytest.fixture
def run(run_alone: RunCli, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Runs `run-isolated` with the cache, and its temporary directories below tmp_path/scratch."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def run(digest: str, *arguments: str) -> Ran:
        return run_alone(
            "run-isolated", "--isolate-server", NOWHERE, "--cache", cache_dir, "--hash", digest, *arguments
        )

    return run


def test_a_task_runs_with_extra_arguments_and_leaves_nothing(
    run: RunCli, package: Callable[..., str], tmp_path: Path
) -> None:
    ran = run(package("./test.sh", "0"), "--", "--filter", "x")

    assert ran == Ran(status=0, stdout="0 --filter x from bin\n", stderr="trouble\n")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(("argument", "status"), [("0", 0), ("3", 3), ("88", 88), ("die", 128 + 11)])
def test_the_exit_code_is_the_commands(run: RunCli, package: Callable[..., str], argument: str, status: int) -> None:
    assert run(package("./test.sh", argument)).status == status


def test_a_leaked_directory_is_named_and_can_be_looked_at(
    run: RunCli, package: Callable[..., str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran = run(package("./test.sh", "1"), "--leak-temp-dir")

    assert ran.status == 1
    (record,) = [item for item in caplog.records if item.levelname == "WARNING"]
    words = record.getMessage().split()
    assert [*words[:2], *words[3:]] == ["Deliberately", "leaking", "for", "later", "examination"]
    leaked = Path(words[2])
    assert leaked.is_relative_to(tmp_path / "scratch")
    assert (leaked / "bin/data.txt").read_text() == "data\nchanged\n"
    assert (leaked / "bin/link").readlink() == Path("data.txt")
    assert subprocess.run([leaked / "bin/test.sh", "4"], cwd=leaked / "bin", check=False).returncode == 4


def test_a_package_without_a_command_takes_one_from_the_command_line(run: RunCli, package: Callable[..., str]) -> None:
    digest = package()

    assert run(digest, "--", "./test.sh", "5").status == 5
    refused = run(digest)
    assert refused.status == 1
    assert refused.stderr == f"dist-test: No command to run: the package {digest} has none; give one after --\n"


def test_without_an_isolate_server_the_setting_is_named(run_alone: RunCli) -> None:
    ran = run_alone("run-isolated", "--hash", "a" * 40)

    assert ran.status == 1
    assert ran.stderr.startswith("dist-test: no isolate server is configured; set ISOLATE_SERVER to its address")


def test_a_cache_that_cannot_be_used_is_told(run_alone: RunCli) -> None:
    ran = run_alone("run-isolated", "-I", NOWHERE, "--cache", "/proc/nothing", "--hash", "a" * 40)

    assert ran.status == 1
    assert ran.stderr.startswith("dist-test: cannot use /proc/nothing as a cache: ")


RunWithoutRoot = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_without_root(cache_dir: Path) -> Iterator[RunWithoutRoot]:
    """Runs the program in a process of its own: of `nobody` where we are root, else of ourselves."""
    user = NOBODY if os.getuid() == 0 else os.getuid()
    packages = Path(tempfile.mkdtemp(prefix="dist-test-packages-"))
    copy_packages(packages, "click", "requests", "urllib3", "idna", "certifi", "charset-normalizer")
    script = "import sys; from dist_test.cli.main import main; main(sys.argv[1:])"

    def run(digest: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        for path in (cache_dir, *cache_dir.rglob("*")):
            os.chown(path, user, -1)
        return subprocess.run(
            # Not sys.executable, which may be below /root.
            ["/usr/bin/python3", "-c", script, "run-isolated", "-I", NOWHERE, "-H", digest, *arguments],
            env={
                "HOME": str(cache_dir),
                "ISOLATE_CACHE_DIR": str(cache_dir),
                "PYTHONPATH": str(packages),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            cwd="/",
            user=user if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None,
            check=False,
            capture_output=True,
            text=True,
        )

    yield run
    shutil.rmtree(packages)


def test_it_works_without_being_root(package: Callable[..., str], run_without_root: RunWithoutRoot) -> None:
    done = run_without_root(package("sh", "-c", "id -u; exit 9"))

    assert (done.returncode, done.stderr) == (9, "")
    assert done.stdout == f"{NOBODY if os.getuid() == 0 else os.getuid()}\n"


def test_the_leaking_line_is_on_stderr_as_the_original_has_it(
    package: Callable[..., str], run_without_root: RunWithoutRoot
) -> None:
    done = run_without_root(package("true"), "--leak-temp-dir")

    level, pid, place, *words = done.stderr.split()
    assert (level, pid.isdigit(), place.startswith("run_isolated(")) == ("WARNING", True, True)
    assert words[:2] == ["Deliberately", "leaking"]
    shutil.rmtree(Path(words[2]).parents[1])
