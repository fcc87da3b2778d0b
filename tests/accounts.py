"""Accounts of a real MariaDB with the rights that they have in a deployed cluster, and no more."""

import os
import pwd
from collections.abc import Mapping

import pymysql

from dist_test.local.daemons import MariaDb
from dist_test.settings import MysqlSettings
from dist_test.storage.database import Database
from dist_test.storage.grants import GRANT_TABLES, Account, grant
from dist_test.storage.migrate import sole_migrator
from dist_test.storage.rights import RIGHTS

HOST = "127.0.0.1"
OWNER = "owner"


def administer(mariadb: MariaDb, *statements: str) -> None:
    """Run statements as the server's administrator."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    connection = pymysql.connect(unix_socket=str(mariadb.socket_path), user=user, autocommit=True)
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def make_accounts(mariadb: MariaDb, database: str) -> dict[str, MysqlSettings]:
    """An owner, who may do anything in this database and nothing elsewhere, and for each program one without rights."""
    settings = {
        role: MysqlSettings(
            host=mariadb.host, port=mariadb.port, user=f"{database}_{role}", password=f"of {role}", database=database
        )
        for role in (OWNER, *RIGHTS)
    }
    for one in settings.values():
        administer(mariadb, f"CREATE OR REPLACE USER '{one.user}'@'{HOST}' IDENTIFIED BY '{one.password}'")
    owner = f"'{settings[OWNER].user}'@'{HOST}'"
    # _ stands for any character in the name of a database.
    scope = database.replace("_", "\\_")
    administer(mariadb, f"GRANT ALL ON `{scope}`.* TO {owner} WITH GRANT OPTION")
    administer(mariadb, *(f"GRANT SELECT ON mysql.{table} TO {owner}" for table in GRANT_TABLES))
    return settings


def account(settings: Mapping[str, MysqlSettings], program: str) -> Account:
    """The account of a program."""
    return Account(program=program, user=settings[program].user, host=HOST)


def grant_all(settings: Mapping[str, MysqlSettings]) -> list[str]:
    """As the owner, give each program's account its rights; give back what was run."""
    database = Database(settings[OWNER], pool_size=1)
    try:
        with sole_migrator(database) as connection:
            return grant(connection, [account(settings, program) for program in RIGHTS])
    finally:
        database.close()
