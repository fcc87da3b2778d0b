"""`install-shims`: what it writes works from anywhere, and what others wrote stays."""

import subprocess
from pathlib import Path

import pytest

from dist_test import __version__
from dist_test.cli.install_shims import SHIMS, shim_text
from tests.unit.cli.conftest import RunCli


def test_the_shims_are_written_once_and_said_to_be_unchanged_then(run_alone: RunCli, tmp_path: Path) -> None:
    home = tmp_path / "a home"
    first = run_alone("install-shims", home)

    assert first.status == 0
    assert {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} == set(SHIMS)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    second = run_alone("install-shims", home)
    assert (second.status, second.stdout) == (0, first.stdout)
    assert [line.split()[1] for line in second.stderr.splitlines()] == ["unchanged:"] * len(SHIMS)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_what_it_prints_makes_the_programs_work_beside_a_dist_test_py(run_alone: RunCli, tmp_path: Path) -> None:
    home = tmp_path / "it's a home"
    exports = run_alone("install-shims", home).stdout
    (tmp_path / "dist_test.py").write_text("raise SystemExit('the wrong dist_test')")  # Kudu's build-support has one

    script = f"{exports}isolate version && run_isolated --version && $DIST_TEST_HOME/bin/client --help"
    done = subprocess.run(["/bin/sh", "-c", script.replace("$DIST", '"$DIST').replace("/bin/client", '"/bin/client')],
                          cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip

    assert done.returncode == 0, done.stderr
    versions = done.stdout.splitlines()[:2]
    assert versions == [f"isolate, version {__version__}", f"run_isolated, version {__version__}"]


def test_a_file_that_it_did_not_write_is_named_and_nothing_is_changed(run_alone: RunCli, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/isolate").write_text("#!/bin/sh\nsomebody else's\n")
    (tmp_path / "bin/client").symlink_to("isolate")
    refused = run_alone("install-shims", tmp_path)

    assert refused.status == 1
    assert f"{tmp_path}/bin/client, {tmp_path}/bin/isolate: not written by install-shims" in refused.stderr
    assert len(list((tmp_path / "bin").iterdir())) == 2

    assert run_alone("install-shims", "--force", tmp_path).status == 0
    assert "dist_test.cli.isolate_program" in (tmp_path / "bin/isolate").read_text()
    assert not (tmp_path / "bin/client").is_symlink()


@pytest.mark.parametrize("path", ["bin", "bin/client/x"])
def test_a_place_that_cannot_be_written_to_is_one_line(run_alone: RunCli, tmp_path: Path, path: str) -> None:
    in_the_way = tmp_path / path
    in_the_way.parent.mkdir(parents=True, exist_ok=True)
    in_the_way.write_text("")
    ran = run_alone("install-shims", "--force", tmp_path)

    assert ran.status == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "cannot be written" in ran.stderr
    assert list(tmp_path.rglob(".*")) == []


def test_a_shim_whose_python_is_gone_says_what_to_do(tmp_path: Path) -> None:
    shim = tmp_path / "client"
    shim.write_text(shim_text("dist_test.cli.shims_client", "/no where/python"))
    done = subprocess.run(["/bin/sh", shim], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert (
        done.stderr
        == "dist-test: /no where/python is gone; run dist-test install-shims again, from where dist_test is now\n"
    )
