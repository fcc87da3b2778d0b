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
        chosen = ("--hash", digest) if digest else ()
        return run_alone("run-isolated", "--isolate-server", NOWHERE, "--cache", cache_dir, *chosen, *arguments)

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


@pytest.mark.parametrize(
    ("read_only", "modes"), [(0, "755 755 644"), (1, "755 555 444"), (2, "555 555 444")], ids=["0", "1", "2"]
)
def test_read_only_takes_write_bits_away(
    run: RunCli, cache_dir: Path, package: Callable[..., str], read_only: int, modes: str
) -> None:
    inner = package("sh", "-c", "stat -c %a . test.sh data.txt | tr '\\n' ' '; exit 4")
    document = {"algo": "sha-1", "version": "1.4", "includes": [inner], "read_only": read_only}
    file = cache_dir / "outer.isolated"
    file.write_text(json.dumps(document))
    ran = run("", "--isolated", str(file))

    assert (ran.status, ran.stdout.strip()) == (4, modes)


def test_how_it_ended_is_written_to_a_file(run: RunCli, package: Callable[..., str]) -> None:
    assert run(package("./test.sh", "3"), "-json=r.json").status == 0
    result = json.loads(Path("r.json").read_text())
    assert (result["exit_code"], result["internal_failure"], result["outputs_ref"]) == (3, None, None)

    assert run(package(), "--json", "r.json").status == 1
    assert json.loads(Path("r.json").read_text())["internal_failure"].startswith("No command to run")


def test_the_command_line_changes_command_directory_environment_and_limit(
    run: RunCli, package: Callable[..., str]
) -> None:
    digest = package("./test.sh", "3")
    replaced = run(digest, "--raw-cmd", "--relative-cwd=.", "--env", "X=y=z", "--", "sh", "-c", 'echo "$X"; ls')
    assert replaced.stdout == "y=z\nbin\ntask.isolated\n"

    ended = run(digest, "--raw-cmd", "--hard-timeout", "0.2", "--grace-period=1", "--", "sleep", "60")
    assert ended.status == 128 + 15


@pytest.mark.parametrize(
    "arguments",
    [
        ("-vv", "--no-log", "-l", "x.log", "--auth-method=none"),
        ("--cipd-enabled=False", "--auth-disabled"),
        ("-max-cache-size=1000000", "--min-free-space", "0", "--max-items=50", "--namespace", "default-gzip"),
    ],
    ids=" ".join,
)
def test_flags_that_change_nothing_here_are_taken(
    run: RunCli, package: Callable[..., str], arguments: tuple[str, ...]
) -> None:
    assert run(package("./test.sh", "3"), *arguments).status == 3
    assert not Path("x.log").exists()


@pytest.mark.parametrize(
    "arguments", ["--indir x", "--named-cache a b 0", "--output x", "--cipd-enabled=True", "--env X", "--isolated x"]
)
def test_flags_that_would_mislead_are_refused(run: RunCli, arguments: str) -> None:
    ran = run("a" * 40, *arguments.split())

    assert ran.status == 2
    assert arguments.split()[0].partition("=")[0] in ran.stderr
