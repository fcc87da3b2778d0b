"""`config`: which settings are in force, where they come from, and what is wrong with them."""

from pathlib import Path

import pytest

from tests.unit.cli.conftest import RunCli


@pytest.fixture
def file(home: Path) -> Path:
    path = home / ".dist_test.cnf"
    path.write_text("[dist_test]\nmaster = http://m:8081/\npassword = se%cret\n[aws]\nregion = us-east-1\n")
    return path


def lines_of(text: str) -> dict[str, str]:
    return dict(line.split(" =", 1) for line in text.splitlines() if " =" in line)


def test_each_setting_has_its_origin(run_alone: RunCli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIST_TEST_USER", "ada")
    monkeypatch.setenv("DIST_TEST_MASTER", "http://other:8081")

    ran = run_alone("config")

    assert (ran.status, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"# file: {file}\n")
    shown = lines_of(ran.stdout)
    assert shown["dist_test.master"] == " http://other:8081  # environment variable DIST_TEST_MASTER"
    assert shown["dist_test.user"] == " ada  # environment variable DIST_TEST_USER"
    assert shown["dist_test.url_timeout"] == " 60  # default"
    assert shown["isolate.server"] == "  # not set"
    assert shown["aws.region"] == " us-east-1  # file"


def test_passwords_are_hidden(run_alone: RunCli, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PWD", "hush")

    ran = run_alone("config", "--all")

    shown = lines_of(ran.stdout)
    assert shown["dist_test.password"] == " (hidden)  # file"
    assert shown["mysql.password"] == " (hidden)  # environment variable MYSQL_PWD"
    assert "se%cret" not in ran.stdout
    assert "hush" not in ran.stdout


def test_settings_of_services_are_shown_when_they_are_set_or_asked_for(run_alone: RunCli, file: Path) -> None:
    assert "beanstalk.port" not in lines_of(run_alone("config").stdout)
    assert lines_of(run_alone("config", "--all").stdout)["beanstalk.port"] == " 11300  # default"


def test_what_is_wrong_is_named_and_exits_1(run_alone: RunCli, file: Path) -> None:
    file.write_text("[dist_test]\nmaster = m:8081\npasswort = x\nurl_timeout = soon\n[beanstalk]\nport = many\n")

    ran = run_alone("config")

    assert ran.status == 1
    for name in ("passwort is not known; did you mean password?", "[dist_test] master", "url_timeout", "port"):
        assert name in ran.stderr
    assert all(line.startswith("dist-test: ") for line in ran.stderr.splitlines())
    assert lines_of(ran.stdout)["dist_test.url_timeout"] == " soon  # file"


def test_without_a_master_nothing_works_and_config_says_so(run_alone: RunCli) -> None:
    ran = run_alone("config")

    assert ran.status == 1
    assert ran.stderr.startswith("dist-test: dist_test.master is not set; set master in section [dist_test] of ")
    assert ran.stdout.startswith("# file: none (")


def test_a_file_that_is_no_ini_file_is_told(run_alone: RunCli, file: Path) -> None:
    file.write_text("hello\n")

    ran = run_alone("config")

    assert ran.status == 1
    assert f"{file} cannot be read" in ran.stderr


def test_a_named_file_that_is_not_there_is_told(run_alone: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIST_TEST_CNF", "/nowhere.cnf")

    ran = run_alone("config")

    assert ran.status == 1
    assert ran.stderr.startswith("dist-test: DIST_TEST_CNF is /nowhere.cnf, which is not a file")
