"""Which statements the command `mysql-accounts` of the role mysql needs; tests/services runs them on a real MariaDB."""

import json
from collections.abc import Mapping

import pytest

from roles.mysql.files.accounts import PLUGIN, Account, AccountsError, Found, Wanted, plan

OWNER = Account(name="dist_test_owner", hosts="%", password="of the owner")
MASTER = Account(name="dist_test_master", hosts="%", password="of the master")
NOBODY = Account(name="dist_test_autoscaler", hosts="%", password="")
WANTED = Wanted(database="dist_test", owner=OWNER, programs=(MASTER, NOBODY))
USAGE = "GRANT USAGE ON *.* TO `{}`@`%` IDENTIFIED BY PASSWORD '*00'"
OWNERS = (
    USAGE.format(OWNER.name),
    r"GRANT ALL PRIVILEGES ON `dist\_test`.* TO `dist_test_owner`@`%` WITH GRANT OPTION",
    *(f"GRANT SELECT ON `mysql`.`{table}` TO `dist_test_owner`@`%`" for table in ("db", "tables_priv", "columns_priv")),
)
MASTERS = (
    USAGE.format(MASTER.name),
    "GRANT SELECT, INSERT, UPDATE (`state`) ON `dist_test`.`tasks` TO `dist_test_master`@`%`",
)


def found(
    *,
    databases: frozenset[str] = frozenset({"mysql", "dist_test"}),
    passwords: Mapping[tuple[str, str], tuple[str, str]] | None = None,
    owners: tuple[str, ...] = OWNERS,
    masters: tuple[str, ...] = MASTERS,
) -> Found:
    """A server that has what is wanted, but for what the test says."""
    as_wanted = {(each.name, each.hosts): (PLUGIN, each.stored_password) for each in (OWNER, MASTER)}
    grants = {(OWNER.name, "%"): owners, (MASTER.name, "%"): masters}
    return Found(databases=databases, passwords={**as_wanted, **(passwords or {})}, grants=grants)


def statements(state: Found) -> list[str]:
    return [statement for step in plan(WANTED, state) for statement in step.statements]


def test_nothing_is_to_do_when_everything_is_there() -> None:
    assert plan(WANTED, found()) == []


def test_an_empty_server_gets_the_database_and_the_accounts() -> None:
    empty = Found(databases=frozenset(), passwords={}, grants={})
    assert [step.reason for step in plan(WANTED, empty)] == [
        "created database dist_test",
        "created 'dist_test_owner'@'%'",
        r"granted 'dist_test_owner'@'%' ALL PRIVILEGES WITH GRANT OPTION on `dist\_test`.*",
        "granted 'dist_test_owner'@'%' SELECT on `mysql`.`db`",
        "granted 'dist_test_owner'@'%' SELECT on `mysql`.`tables_priv`",
        "granted 'dist_test_owner'@'%' SELECT on `mysql`.`columns_priv`",
        "created 'dist_test_master'@'%'",
    ]


@pytest.mark.parametrize(
    "has",
    [
        pytest.param((PLUGIN, "*0000000000000000000000000000000000000000"), id="another password"),
        pytest.param((PLUGIN, ""), id="no password"),
        pytest.param(("unix_socket", MASTER.stored_password), id="another way to log in"),
    ],
)
def test_a_changed_password_changes_the_account(has: tuple[str, str]) -> None:
    (statement,) = statements(found(passwords={(MASTER.name, "%"): has}))
    assert statement == f"ALTER USER {MASTER} IDENTIFIED VIA {PLUGIN} USING '{MASTER.stored_password}'"


def test_no_statement_and_no_reason_holds_a_password() -> None:
    for step in plan(WANTED, Found(databases=frozenset(), passwords={}, grants={})):
        assert "of the" not in " ".join([step.reason, *step.statements])


def test_a_password_is_stored_as_the_server_stores_it() -> None:
    # What SELECT PASSWORD('secret') gives.
    account = Account(name="a", hosts="%", password="secret")
    assert account.stored_password == "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param((MASTER.name, "10.0.0.%"), id="for other hosts"),
        pytest.param((NOBODY.name, "%"), id="without a password in the inventory"),
        pytest.param(("", "localhost"), id="without a name"),
    ],
)
def test_an_account_that_should_not_be_is_dropped(key: tuple[str, str]) -> None:
    assert statements(found(passwords={key: (PLUGIN, "")})) == [f"DROP USER '{key[0]}'@'{key[1]}'"]


def test_rights_on_single_tables_are_left_to_the_migrations() -> None:
    assert plan(WANTED, found(masters=MASTERS)) == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(
            r"GRANT SELECT ON `dist\_test`.* TO `dist_test_master`@`%`",
            [rf"REVOKE ALL PRIVILEGES ON `dist\_test`.* FROM {MASTER}"],
            id="on the whole database",
        ),
        pytest.param(
            "GRANT ALL PRIVILEGES ON *.* TO `dist_test_master`@`%` IDENTIFIED BY PASSWORD '*00' WITH GRANT OPTION",
            [f"REVOKE GRANT OPTION ON *.* FROM {MASTER}", f"REVOKE ALL PRIVILEGES ON *.* FROM {MASTER}"],
            id="on everything",
        ),
        pytest.param(
            "GRANT USAGE ON *.* TO `dist_test_master`@`%` IDENTIFIED BY PASSWORD '*00' WITH GRANT OPTION",
            [f"REVOKE GRANT OPTION ON *.* FROM {MASTER}"],
            id="to give away nothing",
        ),
        pytest.param("GRANT `role` TO `dist_test_master`@`%`", [], id="a role is not ours"),
    ],
)
def test_a_program_has_rights_on_single_tables_only(line: str, expected: list[str]) -> None:
    assert statements(found(masters=(line, MASTERS[1]))) == expected


def test_the_owner_has_all_of_the_database_and_nothing_else() -> None:
    other = "GRANT SELECT ON `mysql`.* TO `dist_test_owner`@`%`"
    lesser = r"GRANT SELECT ON `dist\_test`.* TO `dist_test_owner`@`%`"
    assert statements(found(owners=(*OWNERS, other, lesser))) == [
        rf"REVOKE ALL PRIVILEGES ON `dist\_test`.* FROM {OWNER}",
        f"REVOKE ALL PRIVILEGES ON `mysql`.* FROM {OWNER}",
        rf"GRANT ALL PRIVILEGES ON `dist\_test`.* TO {OWNER} WITH GRANT OPTION",
    ]


def wanted_text(**changes: object) -> str:
    document = {
        "database": "dist_test",
        "hosts": "%",
        "owner": {"name": "dist_test_owner", "password": "secret"},
        "programs": [],
    }
    return json.dumps({**document, **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(wanted_text(database="a`b"), "'a`b' cannot be the name of the database", id="database"),
        pytest.param(wanted_text(hosts="%' OR '"), "cannot be the name of the host", id="host"),
        pytest.param(
            wanted_text(owner={"name": "a'b", "password": "x"}), "cannot be the name of the account", id="account"
        ),
        pytest.param(wanted_text(owner={"name": "a", "password": ""}), "set mysql_owner_password", id="password"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(text: str, message: str) -> None:
    with pytest.raises(AccountsError, match=message):
        Wanted.from_json(text)
