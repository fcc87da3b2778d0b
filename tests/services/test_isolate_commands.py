"""`dist-test isolate` as build scripts call it, against a real server."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dist_test.isolate.digest import digest_bytes
from dist_test.local.ports import free_port

BIN = Path(sys.executable).parent
DEADLINE_SECONDS = 20


@pytest.fixture(scope="module")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("isolate")
    bind = f"127.0.0.1:{free_port()}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(state),
        "DIST_TEST_ISOLATE_SERVER_STORE": f"disk:{state}/store",
    }
    with (state / "log").open("wb") as log:
        process = subprocess.Popen([BIN / "dist-test-isolate", "--bind", bind], env=environment, stderr=log)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while "Booting worker" not in (state / "log").read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://{bind}"
    process.terminate()
    process.wait(DEADLINE_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A developer's shell in a directory, with a home of its own."""

    directory: Path
    home: Path

    def run(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "dist-test"), "isolate", *map(str, arguments)]
        return subprocess.run(
            command,
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def write(self, path: str, content: str, *, mode: int = 0o644) -> Path:
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)
        return target


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    made = Shell(directory=tmp_path / "work", home=tmp_path / "home")
    made.write("run.sh", f"#!/bin/sh\necho {tmp_path.name}\n", mode=0o755)
    made.write("data/a", "a")
    made.write(
        "build/t.isolate", repr({"variables": {"command": ["../run.sh", "<(X)"], "files": ["../run.sh", "../data/"]}})
    )
    return made


def gen_file(shell: Shell, name: str, isolate: str = "build/t.isolate") -> Path:
    arguments = ["-i", isolate, "-s", f"out/{name}.isolated", "--extra-variable", f"X={name}"]
    document = {"version": 1, "dir": str(shell.directory), "args": arguments, "name": "ignored"}
    return shell.write(f"{name}.isolated.gen.json", json.dumps(document))


def test_batcharchive_as_kudu_calls_it(shell: Shell, server_url: str) -> None:
    files = [gen_file(shell, name) for name in ("foo-test.0", "foo-test.1")]
    done = shell.run("batcharchive", f"-isolate-server={server_url}/", "-dump-json=dump.json", "--", *files)
    assert done.returncode == 0, done.stderr
    hashes = json.loads((shell.directory / "dump.json").read_text())
    assert hashes.keys() == {"foo-test.0", "foo-test.1"}
    assert sorted(done.stdout.splitlines()) == sorted(f"{digest}  {name}" for name, digest in hashes.items())
    written = (shell.directory / "out/foo-test.0.isolated").read_bytes()
    assert digest_bytes(written) == hashes["foo-test.0"]
    assert json.loads(written)["command"] == ["../run.sh", "foo-test.0"]
    assert "Misses" in done.stderr


def test_batcharchive_as_grind_calls_it(shell: Shell, server_url: str) -> None:
    file = gen_file(shell, "t")
    done = shell.run("batcharchive", "--dump-json=hashes.json", "--", file, ISOLATE_SERVER=server_url)
    assert done.returncode == 0, done.stderr
    assert json.loads((shell.directory / "hashes.json").read_text()).keys() == {"t"}


def test_one_bad_item_fails_the_batch_and_no_dump_is_written(shell: Shell, server_url: str) -> None:
    shell.write("build/bad.isolate", repr({"variables": {"files": ["missing"]}}))
    files = [gen_file(shell, "good"), gen_file(shell, "bad", "build/bad.isolate")]
    done = shell.run("batcharchive", "-I", server_url, "-dump-json", "dump.json", "--", *files)
    assert done.returncode == 1
    assert "build/missing is missing" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shell.directory / "dump.json").exists()


@pytest.mark.parametrize("text", ["{", '{"version": 1, "dir": "/nonexistent", "args": ["-i", "i", "-s", "s"]}'])
def test_a_bad_gen_file_is_named(shell: Shell, server_url: str, text: str) -> None:
    done = shell.run("batcharchive", "-I", server_url, "--", shell.write("x.gen.json", text))
    assert done.returncode == 1
    assert "x.gen.json" in done.stderr


def test_a_server_that_is_gone_fails_the_batch(shell: Shell) -> None:
    done = shell.run(
        "batcharchive", "-I", f"http://127.0.0.1:{free_port()}", "-dump-json=d.json", "--", gen_file(shell, "t")
    )
    assert done.returncode == 1
    assert "isolate server" in done.stderr
    assert not (shell.directory / "d.json").exists()


def test_wrong_usage_exits_2(shell: Shell) -> None:
    assert shell.run("batcharchive").returncode == 2
    assert shell.run("archive").returncode == 2
    assert shell.run("download").returncode == 2
    assert shell.run("batcharchive", "-nonsense", "--", "x").returncode == 2


def test_without_a_server_the_message_says_how_to_set_one(shell: Shell) -> None:
    done = shell.run("archive", "run.sh")
    assert done.returncode == 1
    assert "ISOLATE_SERVER" in done.stderr


def test_what_was_archived_from_paths_is_downloaded_as_a_private_copy(shell: Shell, server_url: str) -> None:
    (shell.directory / "data/link").symlink_to("a")
    archived = shell.run("archive", "--command", "./run.sh 'one two'", "run.sh", "data", ISOLATE_SERVER=server_url)
    assert archived.returncode == 0, archived.stderr
    digest, name = archived.stdout.split()
    assert name == "run.sh"
    for number in range(2):
        target = shell.directory / f"copy{number}"
        done = shell.run("download", "-I", server_url, "--hash", digest, "--target", target)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [
            f"To run this test please run from the directory {target}/.:".replace("/.:", ":"),
            "  ./run.sh 'one two'",
        ]
        assert os.access(target / "run.sh", os.X_OK)
        assert (target / "data/link").readlink() == Path("a")
        (target / "data/a").write_text("changed")


def test_an_isolate_file_is_archived_with_its_variables(shell: Shell, server_url: str) -> None:
    arguments = ["archive", "-i", "build/t.isolate", "-s", "x.isolated", "-extra-variable", "X", "1", "-I", server_url]
    done = shell.run(*arguments)
    assert done.returncode == 0, done.stderr
    digest = digest_bytes((shell.directory / "x.isolated").read_bytes())
    assert done.stdout == f"{digest}  x\n"


def test_single_blobs_are_downloaded_to_files(shell: Shell, server_url: str) -> None:
    digest = shell.run("archive", "data/a", ISOLATE_SERVER=server_url).stdout.split()[0]
    done = shell.run("download", "-I", server_url, "-f", digest, "a.isolated", "-f", digest_bytes(b"a"), "sub/a")
    assert done.returncode == 0, done.stderr
    assert digest_bytes((shell.directory / "a.isolated").read_bytes()) == digest
    assert (shell.directory / "sub/a").read_text() == "a"


def test_download_refuses_a_directory_that_is_not_empty_and_an_unknown_hash(shell: Shell, server_url: str) -> None:
    assert shell.run("download", "-I", server_url, "--hash", "a" * 40, "--target", "data").returncode == 1
    done = shell.run("download", "-I", server_url, "--hash", "a" * 40, "--target", "new")
    assert done.returncode == 1
    assert "a" * 40 in done.stderr
    assert not (shell.directory / "new").exists()


def test_the_bare_program_takes_go_flags_and_helps(shell: Shell, server_url: str) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "isolate"), *map(str, arguments)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(shell.home)}
        return subprocess.run(
            command, cwd=shell.directory, env=environment, capture_output=True, text=True, check=False
        )

    done = run(
        "batcharchive", f"-isolate-server={server_url}/", "-blacklist", "a", "-dump-json", "d", gen_file(shell, "t")
    )
    assert done.returncode == 0, done.stderr
    assert "data/a" not in run("download", "-I", server_url, "-hash", done.stdout.split()[0], "-t", "out").stdout
    assert not (shell.directory / "out/data/a").exists()
    assert run("help", "batcharchive").stdout.startswith("Usage: isolate batcharchive ")
    assert run("archive", "-help").stdout.startswith("Usage: isolate archive ")
    assert run("version").stdout.startswith("isolate, version ")
    unknown = run("batcharchive", "-isolate-serve=x", "y")
    assert (unknown.returncode, "No such option '--isolate-serve'" in unknown.stderr) == (2, True)


def test_what_a_task_leaves_in_its_output_directory_is_uploaded(shell: Shell, server_url: str) -> None:
    command = "sh -c 'mkdir $0/d && echo made > $0/d/f; exit 7' ${ISOLATED_OUTDIR}"
    digest = shell.run("archive", "-I", server_url, "--command", command, "run.sh").stdout.split()[0]
    scratch = shell.directory / "scratch"
    environment = {"PATH": os.environ["PATH"], "HOME": str(shell.home), "ISOLATE_SERVER": f"{server_url}/"}
    ran = subprocess.run(
        [BIN / "run_isolated", "-H", digest, "--root-dir", scratch],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 7, ran.stderr
    start, end = "[run_isolated_out_hack]", "[/run_isolated_out_hack]"
    hack = ran.stdout.strip()
    assert hack.startswith(start)
    assert hack.endswith(end)
    outputs = json.loads(hack.removeprefix(start).removesuffix(end))
    assert (outputs["namespace"], outputs["storage"]) == ("default-gzip", server_url)
    assert shell.run("download", "-I", server_url, "--hash", outputs["hash"], "-t", "got").returncode == 0
    assert (shell.directory / "got/d/f").read_text() == "made\n"
    assert list(scratch.iterdir()) == []


def test_a_dump_into_what_is_no_file_leaves_it_in_place(shell: Shell, server_url: str) -> None:
    pipe = shell.directory / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)

    done = shell.run("batcharchive", "-I", server_url, f"-dump-json={pipe}", "--", gen_file(shell, "t"))
    dumped = os.read(reader, 2**16)
    os.close(reader)

    assert done.returncode == 0
    assert pipe.is_fifo()
    assert list(json.loads(dumped)) == ["t"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(("--command", "'", "f"), 2), (("--command", "true", "-s", ".", "f"), 1)],
    ids=["open quote", "directory as file"],
)
def test_what_cannot_be_done_is_told_without_a_traceback(
    shell: Shell, server_url: str, arguments: tuple[str, ...], status: int
) -> None:
    shell.write("f", "content")

    done = shell.run("archive", "-I", server_url, *arguments)

    assert done.returncode == status
    assert "Traceback" not in done.stderr
