"""The program around the commands: help, versions, usage errors, and how quick it is."""

import subprocess
import sys
import time

import pytest

from dist_test.cli.main import COMMANDS, dist_test
from tests.unit.cli.conftest import RunCli

HELP_LIMIT_SECONDS = 0.150
_RUN = "import sys; from dist_test.cli.main import main; main(sys.argv[1:])"


def test_help_names_every_command_without_importing_one() -> None:
    script = f"import sys, atexit; atexit.register(lambda: print(sorted(sys.modules))); {_RUN}"
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)

    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    heavy = ("requests", "rich", "configparser", *(command.target.partition(":")[0] for command in COMMANDS.values()))
    assert [module for module in heavy if f"'{module}'" in done.stdout] == []


def test_help_is_there_in_150_milliseconds() -> None:
    # The best of many: what else the machine does may slow any one of them.
    assert any(_help_seconds() <= HELP_LIMIT_SECONDS for _ in range(20))


def _help_seconds() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _RUN, "--help"], capture_output=True, check=True)
    return time.perf_counter() - started


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_has_help(name: str, run_alone: RunCli) -> None:
    ran = run_alone(name, "--help")

    assert ran.status == 0
    assert ran.stdout.startswith(f"Usage: dist-test {name} ")


def test_the_table_has_short_texts() -> None:
    assert all(len(command.help) <= 60 and command.help.endswith(".") for command in COMMANDS.values())


def test_the_version_is_told(run_alone: RunCli) -> None:
    assert run_alone("--version").stdout == "dist-test, version 0.1.0\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("submit",),
        ("submit", "a.json", "b.json"),
        ("submit", "a.json", "--max-failed-tasks", "-1"),
        ("watch", "a", "b"),
        ("fetch",),
        ("fetch", "a-job"),
        ("status", "a-job", "--all"),
        ("run-isolated",),
        ("run-isolated", "--hash", "abc"),
        ("cancel", "--nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], run_alone: RunCli) -> None:
    ran = run_alone(*arguments)

    assert ran.status == 2
    assert ran.stderr.startswith("Usage: dist-test")


@pytest.mark.parametrize("command", ["watch", "cancel", "status", "fetch -l"])
def test_without_a_last_job_a_job_id_is_asked_for(command: str, run_cli: RunCli) -> None:
    ran = run_cli(*command.split())

    assert ran.status == 1
    assert ran.stderr.startswith("dist-test: no job was submitted from here yet (")
    assert ran.stderr.endswith("says none); give a job id\n")


@pytest.mark.parametrize("command", ["watch j", "cancel j", "status j", "status --all", "fetch -l j", "submit j.json"])
def test_without_a_master_the_setting_is_named(command: str, run_alone: RunCli) -> None:
    ran = run_alone(*command.split())

    assert ran.status == 1
    assert ran.stderr == (
        "dist-test: no master is configured; set DIST_TEST_MASTER to its address,"
        " or master in section [dist_test] of ~/.dist_test.cnf\n"
    )


@pytest.mark.parametrize("command", ["watch j", "cancel j", "status j", "fetch -l j"])
def test_an_unknown_job_is_one_line_and_exit_1(command: str, run_cli: RunCli) -> None:
    ran = run_cli(*command.split())

    assert (ran.status, ran.stderr) == (1, "dist-test: no job has the id j\n")


def test_every_mistake_in_the_configuration_has_its_line(run_alone: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIST_TEST_MASTER", "nonsense")
    monkeypatch.setenv("DIST_TEST_URL_TIMEOUT", "-1")

    ran = run_alone("status", "j")

    assert ran.status == 1
    assert [line.partition(":")[0] for line in ran.stderr.splitlines()] == ["dist-test", "dist-test"]


def test_the_commands_are_found_by_click_too() -> None:
    import click

    assert list(dist_test.list_commands(click.Context(dist_test))) == list(COMMANDS)
