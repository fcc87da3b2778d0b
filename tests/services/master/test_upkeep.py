"""The commands `migrate` and `check` of dist-test-master, as an operator or a role runs them."""

import subprocess
from collections.abc import Iterator, Mapping

import pytest

from dist_test.local.daemons import MariaDb
from dist_test.local.program import beside_python
from dist_test.settings import MysqlSettings
from dist_test.storage import schema

from ...accounts import HOST, OWNER, make_accounts
from ..conftest import create_database

NAME = "dist_test_upkeep"

Accounts = Mapping[str, MysqlSettings]


def run(environ: Mapping[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the program to its end."""
    command = [beside_python("dist-test-master"), *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def logins(mariadb: MariaDb) -> Accounts:
    """Accounts of an empty database."""
    create_database(mariadb, NAME)
    return make_accounts(mariadb, NAME)


@pytest.fixture
def owner(environ: dict[str, str], logins: Accounts) -> dict[str, str]:
    """The environment of whoever migrates the empty database."""
    return environ | _login(logins[OWNER])


def _login(settings: MysqlSettings) -> dict[str, str]:
    return {"MYSQL_USER": settings.user, "MYSQL_PWD": settings.password, "MYSQL_DB": settings.database}


def _grants(logins: Accounts) -> Iterator[str]:
    yield from ("--host", HOST)
    for program in ("master", "slave", "autoscaler"):
        yield from ("--grant", f"{program}={logins[program].user}")


def test_serving_without_a_schema_ends_with_the_command_to_run(owner: dict[str, str]) -> None:
    done = run(owner, "serve")

    assert done.returncode == 1
    assert "run: dist-test-master migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_migrating_says_what_it_changed_and_then_unchanged(owner: dict[str, str]) -> None:
    first, second = (run(owner, "migrate") for _ in range(2))

    assert (first.returncode, first.stdout) == (0, f"schema: from nothing to {schema.REVISION}\n")
    assert (second.returncode, second.stdout) == (0, "unchanged\n")


def test_a_check_tells_by_its_status_whether_anything_is_pending(owner: dict[str, str], logins: Accounts) -> None:
    schema_missing = run(owner, "migrate", "--check", *_grants(logins))
    run(owner, "migrate")
    grants_missing = run(owner, "migrate", "--check", *_grants(logins))
    done = run(owner, "migrate", *_grants(logins))
    nothing_missing = run(owner, "migrate", "--check", *_grants(logins))

    assert schema_missing.returncode == grants_missing.returncode == 3
    assert schema_missing.stdout == f"pending: schema: from nothing to {schema.REVISION}\n"
    assert grants_missing.stdout.splitlines() == [f"pending: {line}" for line in done.stdout.splitlines()]
    assert (nothing_missing.returncode, nothing_missing.stdout) == (0, "unchanged\n")


def test_a_master_serves_with_the_rights_that_migrating_gave_it(owner: dict[str, str], logins: Accounts) -> None:
    assert run(owner, "migrate", *_grants(logins)).returncode == 0
    for program in ("master", "slave", "autoscaler"):
        assert run(owner | _login(logins[program]), "slaves").returncode == 0, program
    assert run(owner | _login(logins["slave"]), "weight", "ann", "100").returncode == 1


def test_migrating_goes_back_when_told_to(owner: dict[str, str]) -> None:
    run(owner, "migrate")

    assert run(owner, "migrate", "--to", "0001").stdout == f"schema: from {schema.REVISION} to 0001\n"
    refused = run(owner, "migrate", "--to", "base")
    assert (refused.returncode, "there is no revision base" in refused.stderr) == (1, True)
    assert run(owner, "migrate", "--check").stdout == f"pending: schema: from 0001 to {schema.REVISION}\n"


@pytest.mark.parametrize("grant", ["slave", "slave=", "king=x", "=x"])
def test_a_grant_names_a_program_and_an_account(grant: str, owner: dict[str, str]) -> None:
    done = run(owner, "migrate", "--grant", grant)

    assert done.returncode == 2
    assert "give PROGRAM=ACCOUNT: master, slave, autoscaler" in done.stderr


def test_a_check_of_a_database_that_is_away_is_an_error(owner: dict[str, str], free_port: int) -> None:
    done = run(owner | {"MYSQL_PORT": str(free_port)}, "migrate", "--check")

    assert (done.returncode, done.stdout) == (1, "")
    assert f"{NAME} on 127.0.0.1:{free_port} did not do its work" in done.stderr


def test_checking_the_settings_needs_no_server_and_tells_all_that_is_wrong(
    owner: dict[str, str], free_port: int
) -> None:
    away = {"MYSQL_PORT": str(free_port), "BEANSTALK_PORT": str(free_port)}

    assert run(owner | away, "check").returncode == 0
    done = run(owner | {"MYSQL_PORT": "x", "AWS_SECRET_KEY": ""}, "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert "MYSQL_PORT" in done.stderr
    assert "aws.secret_key is not set" in done.stderr
