"""What `fetch` leaves in a directory: whole files under safe names, and nothing else."""

import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dist_test.cli.archive import unpack
from dist_test.cli.clock import Clock
from dist_test.cli.downloads import Download, Downloader, downloads_of
from dist_test.cli.records import Attempt
from dist_test.errors import UnsafeArchive
from dist_test.model.job import Job
from tests.fakes.clock import FakeClock
from tests.fakes.master import Document, FakeMaster, attempt_document, job_document
from tests.unit.cli.conftest import RunCli

BASE_0 = f"{'a' * 40}_0.0.test_0"
BASE_1 = f"{'a' * 40}_1.0.a_b_c"


def a_zip(*members: tuple[str, str], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", kind) as archive:
        for name, text in members:
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def job(master: FakeMaster) -> str:
    """A job of a test that failed with logs, and one that passed; both have artifacts."""
    master.add_job("j", job_document("j", result="failed", total_tasks=2, failed_tasks=1))
    master.attempts["j"] = [
        attempt_document(
            0,
            outcome="failed",
            stdout_url=master.add_file("out", b"said\n"),
            stderr_url=master.add_file("err", b"complained\n"),
            artifacts_url=master.add_file("zip0", a_zip(("build/logs/x.xml", "<x/>"))),
        ),
        attempt_document(
            1, description="a/b.c", artifacts_url=master.add_file("zip1", a_zip(("build/logs/y.xml", "<y/>")))
        ),
    ]
    return "j"


def names_in(directory: Path | str) -> list[str]:
    """What a shell's `ls -A` would show."""
    return sorted(path.name for path in Path(directory).iterdir())


def found(directory: str = "dist-test-results") -> dict[str, bytes | None]:
    """Everything below the directory: files with their content, directories with None."""
    root = Path(directory)
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def test_logs_and_artifacts_have_the_originals_names(run_cli: RunCli, job: str) -> None:
    ran = run_cli("fetch", "--logs", "--artifacts", job)

    assert (ran.status, ran.stderr) == (0, "dist-test: fetched 4 files into dist-test-results\n")
    files = {name: content for name, content in found().items() if not name.endswith(".zip")}
    assert files == {
        f"{BASE_0}.stdout": b"said\n",
        f"{BASE_0}.stderr": b"complained\n",
        BASE_0: None,
        f"{BASE_0}/build": None,
        f"{BASE_0}/build/logs": None,
        f"{BASE_0}/build/logs/x.xml": b"<x/>",
        BASE_1: None,
        f"{BASE_1}/build": None,
        f"{BASE_1}/build/logs": None,
        f"{BASE_1}/build/logs/y.xml": b"<y/>",
    }
    zips = [f"{BASE_0}.zip", f"{BASE_1}.zip"]
    assert sorted(found()) == sorted([*files, *zips])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("-l", [f"{BASE_0}.stderr", f"{BASE_0}.stdout"]),
        ("-a", [BASE_0, f"{BASE_0}.zip", BASE_1, f"{BASE_1}.zip"]),
        ("-a -f", [BASE_0, f"{BASE_0}.zip"]),
        ("-l -f", [f"{BASE_0}.stderr", f"{BASE_0}.stdout"]),
    ],
)
def test_each_option_fetches_its_own(run_cli: RunCli, job: str, options: str, names: list[str]) -> None:
    assert run_cli("fetch", *options.split(), "-d", "here", job).status == 0

    assert names_in("here") == sorted(names)


@pytest.mark.parametrize("options", ["-l", "-a", "-l -a"])
def test_submit_fetches_what_it_is_asked_for(run_cli: RunCli, master: FakeMaster, job: str, options: str) -> None:
    Path("job.json").write_text(json.dumps({"tasks": [{"isolate_hash": "a" * 40, "description": "test 0"}]}))

    def look(submitted: Job) -> list[Document]:
        master.attempts[submitted.job_id] = master.attempts["j"]
        return [job_document(submitted.job_id, result="failed")]

    master.on_submit = look
    ran = run_cli("submit", *options.split(), "-d", "out", "job.json")

    assert ran.status == 88
    assert (Path("out") / f"{BASE_0}.stdout").exists() == ("-l" in options)
    assert (Path("out") / BASE_1).is_dir() == ("-a" in options)


def test_what_is_there_is_left_alone(run_cli: RunCli, master: FakeMaster, job: str) -> None:
    run_cli("fetch", "-l", "-a", job)
    (Path("dist-test-results") / f"{BASE_0}.stdout").write_text("mine")
    (Path("dist-test-results") / f"{BASE_0}.stderr").unlink()

    ran = run_cli("fetch", "-l", "-a", job)

    assert ran.stderr == "dist-test: fetched 1 files into dist-test-results, 3 were there already\n"
    assert found()[f"{BASE_0}.stdout"] == b"mine"
    assert found()[f"{BASE_0}.stderr"] == b"complained\n"


def test_an_unpacking_that_was_interrupted_is_made_up_for(run_cli: RunCli, job: str) -> None:
    run_cli("fetch", "-a", job)
    (Path("dist-test-results") / BASE_0).rename("elsewhere")

    run_cli("fetch", "-a", job)

    assert found()[f"{BASE_0}/build/logs/x.xml"] == b"<x/>"


def test_a_failed_job_is_a_failed_job_even_when_nothing_can_be_fetched(
    run_cli: RunCli, master: FakeMaster, job: str
) -> None:
    Path("job.json").write_text(json.dumps({"tasks": [{"isolate_hash": "a" * 40, "description": "test 0"}]}))
    results = iter(["failed", "succeeded"])
    master.on_submit = lambda submitted: [job_document(submitted.job_id, result=next(results))]

    assert run_cli("submit", "-l", "-d", "/proc/nothing", "job.json").status == 88
    assert run_cli("submit", "-l", "-d", "/proc/nothing", "job.json").status == 1


def test_a_job_without_results_makes_an_empty_directory(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="succeeded"))

    assert run_cli("fetch", "-l", "j").status == 0
    assert found() == {}


def test_an_unknown_job_makes_no_directory(run_cli: RunCli) -> None:
    assert run_cli("fetch", "-l", "nothing").status == 1
    assert not Path("dist-test-results").exists()


def test_lost_logs_are_told(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="failed"))
    master.attempts["j"] = [attempt_document(0, outcome="failed", logs_lost=True)]

    ran = run_cli("fetch", "-l", "j")

    assert ran.status == 0
    assert "the logs of 1 attempts were lost before they could be stored" in ran.stderr


def test_a_directory_that_cannot_be_made_is_told(run_cli: RunCli, job: str) -> None:
    ran = run_cli("fetch", "-l", "-d", "/proc/nothing", job)

    assert (ran.status, ran.stderr) == (
        1,
        "dist-test: cannot write to /proc/nothing: No such file or directory; choose another --output-dir\n",
    )


def test_links_that_no_longer_work_are_told_without_showing_them(run_cli: RunCli, master: FakeMaster, job: str) -> None:
    del master.files["err"]

    ran = run_cli("fetch", "-l", job)

    assert ran.status == 1
    assert f"dist-test: {BASE_0}.stderr is no longer there (404 Not Found)\n" in ran.stderr
    assert "fetched 1 files" in ran.stderr
    assert "secret" not in ran.stderr


def test_many_pages_are_asked_for_one_after_the_other(run_cli: RunCli, master: FakeMaster) -> None:
    link = master.add_file("log", b"log")
    master.add_job("j", job_document("j", result="failed", total_tasks=1200))
    master.attempts["j"] = [
        attempt_document(index, outcome="failed", stdout_url=None if index % 100 else link) for index in range(1200)
    ]

    assert run_cli("fetch", "-l", "j").status == 0

    assert len(names_in("dist-test-results")) == 12
    paths = master.paths()
    pages = [place for place, path in enumerate(paths) if path.endswith("/attempts")]
    # The second page's links are made when the first page's files are here.
    assert [place - pages[0] for place in pages] == [0, 6, 12]


@pytest.mark.parametrize("description", ["../../etc/passwd", "a" * 2000, "ж/\0\n", "", "..", "x.zip", "~/x"])
def test_no_description_leads_out_of_the_directory(description: str, tmp_path: Path) -> None:
    document = attempt_document(0, description=description, stdout_url="http://x/1", artifacts_url="http://x/2")

    for download in downloads_of(Attempt.from_json(document), tmp_path, logs=True, artifacts=True):
        assert download.path.parent == download.unpacked.parent == tmp_path
        assert re.fullmatch(r"[a-zA-Z0-9_]+\.0\.[a-zA-Z0-9_]*\.(stdout|zip)", download.path.name)
        assert len(os.fsencode(download.path.name)) < 255


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def downloader(tmp_path: Path, clock: Clock) -> Iterator[Downloader]:
    with Downloader(tmp_path / "out", clock=clock, timeout_seconds=5) as running:
        yield running
    assert not [name for name in names_in(tmp_path / "out") if name.startswith(".")]


def fetch_one(downloader: Downloader, url: str) -> list[str]:
    """Fetch one file; give the problems."""
    downloader.fetch([Download(url=url, path=downloader.directory / "file.stdout")], lambda: None)
    return downloader.fetched.problems


def test_a_broken_download_leaves_no_half_file(master: FakeMaster, downloader: Downloader, clock: FakeClock) -> None:
    url = master.add_file("log", b"x" * 100_000, cut_bytes=1000)

    problems = fetch_one(downloader, url)

    assert problems == ["file.stdout cannot be downloaded: ChunkedEncodingError; try again"]
    assert not (downloader.directory / "file.stdout").exists()
    assert clock.sleeps == [1, 4]


def test_a_store_that_recovers_is_asked_again(master: FakeMaster, downloader: Downloader, clock: FakeClock) -> None:
    url = master.add_file("log", status=503)

    problems = fetch_one(downloader, url)
    master.add_file("log", b"log")

    assert problems == ["file.stdout cannot be downloaded: the store answered 503"]
    assert len(clock.sleeps) == 2
    fetch_one(downloader, url)
    assert (downloader.directory / "file.stdout").read_bytes() == b"log"


def test_netrc_credentials_are_not_sent_to_the_store(
    master: FakeMaster, downloader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))

    assert fetch_one(downloader, master.add_file("log", b"log")) == []


def test_an_interrupted_fetch_stops_soon_and_cleans_up(tmp_path: Path, master: FakeMaster) -> None:
    out = tmp_path / "out"
    downloads = [Download(url=master.add_file("log", b"x"), path=out / f"{number}.stdout") for number in range(200)]

    def interrupt() -> None:
        raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        Downloader(out, clock=FakeClock(), timeout_seconds=5) as downloader,
    ):
        downloader.fetch(downloads, interrupt)

    assert len(names_in(out)) < 100
    assert all(path.read_bytes() == b"x" for path in out.iterdir())


def test_two_fetches_at_once_do_not_stand_in_one_anothers_way(tmp_path: Path, master: FakeMaster) -> None:
    url = master.add_file("zip", a_zip(*((f"{number}", "x") for number in range(50))))
    downloads = [Download(url=url, path=tmp_path / f"out/{number}.zip", is_archive=True) for number in range(40)]

    def fetch_all() -> list[str]:
        with Downloader(tmp_path / "out", clock=FakeClock(), timeout_seconds=5) as downloader:
            downloader.fetch(downloads, lambda: None)
        return downloader.fetched.problems

    with ThreadPoolExecutor(2) as pool:
        problems = [future.result() for future in [pool.submit(fetch_all) for _ in range(2)]]

    assert problems == [[], []]
    assert all(len(names_in(tmp_path / f"out/{number}")) == 50 for number in range(40))


def symlink_zip() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return content.getvalue()


def damaged_lzma_zip() -> bytes:
    content = bytearray(a_zip(("x", "y" * 1000), kind=zipfile.ZIP_LZMA))
    content[40] = 0xFF  # behind the name and the compressor's own header
    return bytes(content)


def encrypted_zip() -> bytes:
    content = bytearray(a_zip(("x", "secret")))
    content[6] |= 1  # the flag in the member's own header, and in the directory's
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


UNSAFE = [
    ("../x", a_zip(("../x", "")), "'../x' leads out of the directory"),
    ("a/../../x", a_zip(("a/../../x", "")), "'a/../../x' leads out of the directory"),
    ("absolute", a_zip(("/etc/x", "")), "'/etc/x' is an absolute path"),
    ("backslash", a_zip(("..\\x", "")), "leads out of the directory"),
    ("drive", a_zip(("C:\\x", "")), "is an absolute path"),
    ("symlink", symlink_zip(), "'link' is not a file but a link or a device"),
    ("no zip", b"hello", "cannot be unpacked: File is not a zip file"),
    ("cut", a_zip(("x", "y" * 1000))[:-30], "cannot be unpacked"),
    ("damaged", a_zip(("x", "unchanged"), kind=zipfile.ZIP_STORED).replace(b"unchanged", b"different"), "Bad CRC-32"),
    ("damaged lzma", damaged_lzma_zip(), "cannot be unpacked: Corrupt input data"),
    ("encrypted", encrypted_zip(), "cannot be unpacked"),
    ("conflict", a_zip(("x", "file"), ("x/y", "below it")), "cannot be unpacked"),
]


@pytest.mark.parametrize(("content", "message"), [case[1:] for case in UNSAFE], ids=[case[0] for case in UNSAFE])
def test_an_unsafe_zip_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside/a.zip").write_bytes(content)

    with pytest.raises(UnsafeArchive, match=re.escape(message)):
        unpack(tmp_path / "inside/a.zip", tmp_path / "inside/out")

    assert names_in(tmp_path) == ["inside"]


def test_a_zip_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    copies = 5000
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(copies):
            archive.writestr(f"{number}", "")
            archive.filelist[-1].file_size = 2**31

    with pytest.raises(UnsafeArchive, match=f"holds {copies * 2**31} bytes, and .* has room for"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_refused_zip_is_kept_and_makes_the_fetch_fail(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="succeeded"))
    master.attempts["j"] = [attempt_document(0, artifacts_url=master.add_file("zip", a_zip(("../x", "evil"))))]

    ran = run_cli("fetch", "-a", "j")

    assert ran.status == 1
    assert f"dist-test: {BASE_0}.zip is not unpacked: '../x' leads out of the directory" in ran.stderr
    assert list(found()) == [f"{BASE_0}.zip"]


def test_many_problems_end_in_a_count(run_cli: RunCli, master: FakeMaster) -> None:
    master.add_job("j", job_document("j", result="failed"))
    gone = f"{master.url}/results/gone"
    master.attempts["j"] = [attempt_document(index, outcome="failed", stdout_url=gone) for index in range(15)]

    ran = run_cli("fetch", "-l", "j")

    assert ran.stderr.count("is no longer there") == 10
    assert "... and 5 more files that could not be fetched" in ran.stderr
