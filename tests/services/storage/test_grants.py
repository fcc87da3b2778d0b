"""Rights of the programs' accounts: given, taken, compared with what the server knows; and what they forbid."""

import re
from collections.abc import Iterator, Mapping

import pytest
from sqlalchemy import text

from dist_test.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable
from dist_test.local.daemons import MariaDb
from dist_test.settings import MysqlSettings
from dist_test.storage import schema
from dist_test.storage.database import Database
from dist_test.storage.grants import Account, grant, pending
from dist_test.storage.migrate import migrate, sole_migrator
from dist_test.storage.rights import RIGHTS, Right, statements

from ...accounts import HOST, OWNER, account, administer, make_accounts
from ..conftest import create_database

NAME = "dist_test_granted"

Accounts = Mapping[str, MysqlSettings]


@pytest.fixture
def logins(mariadb: MariaDb) -> Accounts:
    """Accounts without rights, beside the owner of an empty database."""
    create_database(mariadb, NAME)
    return make_accounts(mariadb, NAME)


@pytest.fixture
def owner(logins: Accounts) -> Iterator[Database]:
    """The database, with its schema, as its owner sees it."""
    database = Database(logins[OWNER], pool_size=1)
    migrate(database)
    yield database
    database.close()


def set_rights(owner: Database, *accounts: Account, revokes: bool = True) -> list[str]:
    with sole_migrator(owner) as connection:
        return grant(connection, accounts, revokes=revokes)


def missing(owner: Database, *accounts: Account) -> list[str]:
    return owner.run(lambda connection: pending(connection, accounts))


def shown(mariadb: MariaDb, login: MysqlSettings) -> set[str]:
    """What the account itself is told by SHOW GRANTS, without the line that says it exists."""
    database = Database(login, pool_size=1)
    try:
        lines = database.run(lambda connection: connection.execute(text("SHOW GRANTS")).scalars().all())
    finally:
        database.close()
    return {re.sub(r"\((.*?)\)", _in_order, line) for line in lines if "USAGE ON *.*" not in line}


def _in_order(columns: re.Match[str]) -> str:
    return f"({', '.join(sorted(columns[1].split(', ')))})"


@pytest.mark.parametrize("program", RIGHTS)
def test_the_second_time_there_is_nothing_to_grant(program: str, owner: Database, logins: Accounts) -> None:
    one = account(logins, program)
    announced = missing(owner, one)
    assert announced
    assert set_rights(owner, one) == announced
    assert set_rights(owner, one) == missing(owner, one) == []


def test_the_server_says_what_was_granted(mariadb: MariaDb, owner: Database, logins: Accounts) -> None:
    set_rights(owner, account(logins, "autoscaler"))
    user = f"`{logins['autoscaler'].user}`@`{HOST}`"
    assert shown(mariadb, logins["autoscaler"]) == {
        f"GRANT SELECT ON `{NAME}`.`{table}` TO {user}"
        for table in ("alembic_version", "schema_revisions", "jobs", "tasks", "attempts", "durations")
    } | {
        f"GRANT SELECT, UPDATE (`want`) ON `{NAME}`.`slaves` TO {user}",
        f"GRANT SELECT, INSERT, UPDATE ON `{NAME}`.`autoscale_state` TO {user}",
        f"GRANT SELECT, INSERT, DELETE ON `{NAME}`.`autoscale_audit` TO {user}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON `{NAME}`.`autoscale_pins` TO {user}",
    }


@pytest.mark.parametrize(
    "excess",
    [
        "GRANT ALL ON {name}.attempts TO {user} WITH GRANT OPTION",
        "GRANT UPDATE, DELETE ON {name}.jobs TO {user}",
        "GRANT UPDATE (weight) ON {name}.fair_share TO {user}",
        "GRANT SELECT ON {name}.digest_nonces TO {user}",
        "GRANT SELECT (nonce), INSERT (nonce) ON {name}.digest_nonces TO {user}",
        "GRANT CREATE VIEW, SHOW VIEW, TRIGGER, DELETE HISTORY ON {name}.tasks TO {user}",
    ],
)
def test_what_is_too_much_is_taken_away(excess: str, mariadb: MariaDb, owner: Database, logins: Accounts) -> None:
    slave = account(logins, "slave")
    set_rights(owner, slave)
    right = shown(mariadb, logins["slave"])
    administer(mariadb, excess.format(name=NAME, user=slave))
    assert shown(mariadb, logins["slave"]) != right
    assert any(order.startswith("REVOKE") for order in missing(owner, slave))
    assert any(order.startswith("REVOKE") for order in set_rights(owner, slave))
    assert shown(mariadb, logins["slave"]) == right
    assert missing(owner, slave) == []


@pytest.mark.parametrize(
    "excess",
    [
        "GRANT ALL ON {name}.* TO {user}",
        "GRANT ALL ON {name}.* TO {user} WITH GRANT OPTION",
        "GRANT USAGE ON {name}.* TO {user} WITH GRANT OPTION",
    ],
)
def test_rights_to_the_whole_database_are_taken_by_an_owner_of_just_that_name(
    excess: str, mariadb: MariaDb, owner: Database, logins: Accounts
) -> None:
    slave = account(logins, "slave")
    administer(mariadb, f"GRANT ALL ON {NAME}.* TO '{owner.settings.user}'@'{HOST}' WITH GRANT OPTION")
    set_rights(owner, slave)
    right = shown(mariadb, logins["slave"])
    administer(mariadb, excess.format(name=NAME, user=slave))
    assert set_rights(owner, slave)
    assert shown(mariadb, logins["slave"]) == right
    assert missing(owner, slave) == []


def test_what_was_lost_is_given_again(mariadb: MariaDb, owner: Database, logins: Accounts) -> None:
    slave = account(logins, "slave")
    set_rights(owner, slave)
    right = shown(mariadb, logins["slave"])
    administer(
        mariadb,
        f"REVOKE INSERT ON {NAME}.events FROM {slave}",
        f"REVOKE UPDATE (state) ON {NAME}.jobs FROM {slave}",
    )
    assert set_rights(owner, slave) == [
        f"GRANT INSERT ON `events` TO {slave}",
        f"GRANT UPDATE (`state`) ON `jobs` TO {slave}",
    ]
    assert shown(mariadb, logins["slave"]) == right


def test_what_a_newer_release_has_granted_stays(mariadb: MariaDb, owner: Database, logins: Accounts) -> None:
    slave = account(logins, "slave")
    administer(mariadb, f"GRANT SELECT ON {NAME}.tasks TO {slave}")
    set_rights(owner, slave, revokes=False)
    assert any("`tasks`" in line for line in shown(mariadb, logins["slave"]))


def test_rights_on_what_an_earlier_schema_lacks_are_left_out(owner: Database, logins: Accounts) -> None:
    slave = account(logins, "slave")
    set_rights(owner, slave)
    migrate(owner, to="0001")
    assert [_words(line) for line in set_rights(owner, slave)] == [
        ("REVOKE", "`live_logs`"),
        ("REVOKE", "`schema_revisions`"),
    ]
    migrate(owner)
    assert [_words(line) for line in set_rights(owner, slave)] == [
        ("GRANT", "`live_logs`"),
        ("GRANT", "`schema_revisions`"),
    ]


def _words(line: str) -> tuple[str, str]:
    """What a change does, and on which table."""
    return line.split()[0], line.split(" ON ")[1].split()[0]


def test_rights_on_a_column_that_is_gone_are_taken_away(mariadb: MariaDb, owner: Database, logins: Accounts) -> None:
    slave = account(logins, "slave")
    with owner.engine.begin() as connection:
        connection.execute(text("CREATE TABLE novelties (id INT PRIMARY KEY, a INT, b INT)"))
    administer(mariadb, f"GRANT SELECT (a, b), UPDATE ON {NAME}.novelties TO {slave}")
    with owner.engine.begin() as connection:
        connection.execute(text("ALTER TABLE novelties DROP COLUMN a"))
    set_rights(owner, slave)
    assert missing(owner, slave) == []
    administer(mariadb, f"GRANT SELECT (b) ON {NAME}.novelties TO {slave}")
    with owner.engine.begin() as connection:
        connection.execute(text("DROP TABLE novelties"))
    set_rights(owner, slave)
    assert missing(owner, slave) == []


def test_an_account_that_is_not_there_is_not_made(mariadb: MariaDb, owner: Database) -> None:
    nobody = Account(program="slave", user="nobody", host=HOST)
    with pytest.raises(DatabaseRefused, match=r"there is no account 'nobody'@'127\.0\.0\.1'; make it first"):
        set_rights(owner, nobody)


def test_an_administrators_typing_error_makes_no_account_without_a_password(mariadb: MariaDb, owner: Database) -> None:
    administer(mariadb, f"GRANT ALL ON *.* TO '{owner.settings.user}'@'{HOST}' WITH GRANT OPTION")
    administrator = Database(owner.settings, pool_size=1)
    with pytest.raises(DatabaseRefused, match="there is no account"):
        set_rights(administrator, Account(program="slave", user="nobody", host=HOST))
    administrator.close()


def test_an_owner_that_cannot_see_rights_is_told_what_to_run(
    mariadb: MariaDb, owner: Database, logins: Accounts
) -> None:
    user = f"'{owner.settings.user}'@'{HOST}'"
    administer(mariadb, f"REVOKE SELECT ON mysql.tables_priv FROM {user}")  # noqa: S608  # no query
    with pytest.raises(DatabaseRefused, match=f"administrator, run: .*GRANT SELECT ON mysql.tables_priv TO {user}"):
        set_rights(owner, account(logins, "slave"))


@pytest.mark.parametrize("scope", ["dist\\_test%", NAME])
def test_rights_to_more_than_the_owner_may_give_are_left_to_an_administrator(
    scope: str, mariadb: MariaDb, owner: Database, logins: Accounts
) -> None:
    administer(mariadb, f"GRANT SELECT ON `{scope}`.* TO {account(logins, 'slave')}")
    order = re.escape(f"REVOKE ALL PRIVILEGES ON `{scope}`.* FROM {account(logins, 'slave')}")
    with pytest.raises(DatabaseRefused, match=f"{order}: .*; run it as the server's administrator"):
        set_rights(owner, account(logins, "slave"))


def test_accounts_that_cannot_be_meant_are_refused(owner: Database, logins: Accounts) -> None:
    with pytest.raises(ConfigurationError, match="is the account that migrates"):
        set_rights(owner, Account(program="master", user=owner.settings.user, host=HOST))
    same = logins["slave"].user
    with pytest.raises(ConfigurationError, match="two programs have the same account"):
        set_rights(owner, *(Account(program=program, user=same, host=HOST) for program in ("master", "slave")))
    for name in ("", "o'neill", "a b", "a\\", "`"):
        with pytest.raises(ConfigurationError, match="is not a name for an account"):
            Account(program="slave", user=name, host="%")


def test_an_account_without_rights_is_told_how_to_get_them(owner: Database, logins: Accounts) -> None:
    database = Database(logins["slave"], sleep=lambda _: None)
    with pytest.raises(DatabaseUnavailable, match=r"Access denied .*; grant it: dist-test-master migrate --grant"):
        database.check_schema()
    database.close()


@pytest.mark.parametrize("program", RIGHTS)
def test_rights_are_on_tables_and_columns_that_there_are(program: str) -> None:
    columns = {(table.name, column.name) for table in schema.metadata.tables.values() for column in table.columns}
    there = columns | {(table, "") for table, _ in columns} | {("alembic_version", "")}
    assert [right for right in RIGHTS[program] if (right.table, right.column) not in there] == []


def test_statements_name_rights_by_table_in_one_order() -> None:
    rights = frozenset(
        {Right("b", "UPDATE", "y"), Right("b", "UPDATE", "x"), Right("b", "SELECT"), Right("a", "SELECT", "z`")}
    )
    assert list(statements(rights)) == [("a", "SELECT (`z```)"), ("b", "SELECT, UPDATE (`x`, `y`)")]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT nonce FROM digest_nonces",
        "SELECT env.options FROM tasks AS env",
        "SELECT fingerprint FROM jobs",
        "SELECT * FROM events",
        "INSERT INTO jobs (job_id) VALUES ('j')",
        "INSERT INTO fair_share (owner, period, weight) VALUES ('me', 1, 100)",
        "UPDATE jobs SET owner = 'me'",
        "UPDATE fair_share SET weight = 100",
        "UPDATE attempts SET priority = 0",
        "UPDATE busy_period SET period = 0",
        "UPDATE alembic_version SET version_num = '0'",
        "DELETE FROM jobs",
        "DELETE FROM attempts",
        "DELETE FROM events",
        "DELETE FROM slaves",
        "DROP TABLE attempts",
        "CREATE TABLE mine (id INT)",
        "LOCK TABLES attempts WRITE",
        "SELECT * FROM mysql.user",
    ],
)
def test_a_slave_may_not(statement: str, slave_database: Database) -> None:
    impatient = Database(slave_database.settings, pool_size=1)
    try:
        with pytest.raises(DatabaseUnavailable, match="denied"):
            impatient.run(lambda connection: connection.execute(text(statement)), attempts=1)
    finally:
        impatient.close()
