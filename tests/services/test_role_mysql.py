"""The command `mysql-accounts` of the role mysql on a real MariaDB."""

import getpass
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pymysql
import pytest

from dist_test.local.daemons import MariaDb
from roles.mysql.files.accounts import Account, AccountsError, Server, Wanted, mend, prove


@dataclass
class Inventory:
    """What an operator would write, under names of the test's own, and the server that it is for."""

    server: MariaDb
    name: str = field(default_factory=lambda: f"dist_test_{uuid.uuid4().hex[:12]}")
    passwords: dict[str, str] = field(default_factory=lambda: {"owner": "it's 1", "master": "2", "autoscaler": ""})
    hosts: str = "%"

    def account(self, program: str) -> str:
        return f"{self.name}_{program}"

    def run(self, *, is_check: bool = False) -> str:
        """What the command prints."""
        server = Server(["--no-defaults", f"--socket={self.server.socket_path}"])
        return mend(self.wanted(), server, is_check=is_check)

    def prove(self) -> None:
        prove(self.wanted(), f"127.0.0.1:{self.server.port}")

    def wanted(self) -> Wanted:
        owner, *programs = (
            Account(name=self.account(program), hosts=self.hosts, password=password)
            for program, password in self.passwords.items()
        )
        return Wanted(database=self.name, owner=owner, programs=tuple(programs))

    def log_in(self, program: str) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        return pymysql.connect(
            host="127.0.0.1",
            port=self.server.port,
            user=self.account(program),
            password=self.passwords[program],
        )


@pytest.fixture
def inventory(mariadb: MariaDb) -> Iterator[Inventory]:
    inventory = Inventory(server=mariadb)
    yield inventory
    with as_root(mariadb) as root, root.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS `{inventory.name}`")
        for program in inventory.passwords:
            cursor.execute(f"DROP USER IF EXISTS '{inventory.account(program)}'@'{inventory.hosts}'")


def as_root(server: MariaDb) -> "pymysql.Connection[pymysql.cursors.Cursor]":
    return pymysql.connect(unix_socket=str(server.socket_path), user=getpass.getuser())


def test_a_second_run_changes_nothing(inventory: Inventory) -> None:
    assert inventory.run().startswith("changed: ")
    assert inventory.run() == "unchanged"
    inventory.prove()


def test_a_check_says_what_would_be_and_changes_nothing(inventory: Inventory) -> None:
    told = inventory.run(is_check=True)
    assert f"created database {inventory.name}" in told
    assert inventory.run(is_check=True) == told


def test_pymysql_logs_in_with_the_new_password_only(inventory: Inventory) -> None:
    inventory.run()
    inventory.passwords["master"] = "another"
    assert inventory.run() == f"changed: changed the password of '{inventory.account('master')}'@'%'"
    inventory.log_in("master").close()
    inventory.passwords["master"] = "2"
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        inventory.log_in("master")


def test_the_owner_makes_tables_and_gives_rights_that_stay(inventory: Inventory) -> None:
    inventory.run()
    with inventory.log_in("owner") as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE `{inventory.name}`.tasks (a INT, b INT)")
        cursor.execute(f"GRANT SELECT (a) ON `{inventory.name}`.tasks TO '{inventory.account('master')}'@'%'")
    assert inventory.run() == "unchanged"
    with inventory.log_in("master") as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT a FROM `{inventory.name}`.tasks")  # noqa: S608  # our own name
        with pytest.raises(pymysql.OperationalError, match="denied"):
            cursor.execute(f"SELECT b FROM `{inventory.name}`.tasks")  # noqa: S608  # our own name


def test_rights_that_somebody_added_are_taken_back(inventory: Inventory) -> None:
    inventory.run()
    account = f"'{inventory.account('master')}'@'%'"
    with as_root(inventory.server) as root, root.cursor() as cursor:
        cursor.execute(f"GRANT SELECT, PROCESS ON *.* TO {account} WITH GRANT OPTION")
        cursor.execute(f"GRANT ALL ON `mysql`.* TO {account}")
    assert inventory.run().count("revoked") == 2
    assert inventory.run() == "unchanged"
    with inventory.log_in("master") as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GRANTS")
        ((line,),) = cursor.fetchall()
    assert line.startswith("GRANT USAGE ON *.* ")


def test_the_owner_reads_who_may_do_what_and_cannot_change_it(inventory: Inventory) -> None:
    inventory.run()
    owner = f"'{inventory.account('owner')}'@'%'"
    with as_root(inventory.server) as root, root.cursor() as cursor:
        cursor.execute(f"GRANT INSERT ON mysql.db TO {owner}")
    assert inventory.run().startswith(f"changed: revoked from {owner} what it had on `mysql`.`db`")
    assert inventory.run() == "unchanged"
    with inventory.log_in("owner") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM mysql.db")
        with pytest.raises(pymysql.OperationalError, match="denied"):
            cursor.execute("DELETE FROM mysql.db")


def test_an_account_goes_with_its_password_and_its_hosts(inventory: Inventory) -> None:
    inventory.run()
    inventory.passwords["master"] = ""
    inventory.hosts = "127.0.0.1"
    assert inventory.run().count("dropped") == 2
    inventory.log_in("owner").close()
    with pytest.raises(pymysql.OperationalError, match="Access denied"):
        inventory.log_in("master")
    assert inventory.run() == "unchanged"


def test_an_account_that_cannot_log_in_fails_the_proof(inventory: Inventory) -> None:
    inventory.run()
    inventory.passwords["owner"] = "wrong"
    with pytest.raises(AccountsError, match="_owner'@'%' cannot log in"):
        inventory.prove()
