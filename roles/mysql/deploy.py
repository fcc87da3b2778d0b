"""The database and its accounts; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host

from roles.operations import LIBRARY, directory, ensure, packages, prove, put, secret, service
from roles.role import Role

_SETTINGS = "/etc/mysql/mariadb.conf.d/90-dist_test.cnf"
_UNIT_SETTINGS = "/etc/systemd/system/mariadb.service.d/dist_test.conf"
_COMMAND = f"{LIBRARY}/mysql-accounts"
_ACCOUNTS = "/etc/dist_test/mysql_accounts.json"


def deploy(role: Role) -> None:
    """Run MariaDB, with the database and the accounts of the inventory."""
    # Before the package, so that the server's first start is with these settings.
    _write_settings(role)
    packages("mysql | Install packages", ["mariadb-server"])
    service("mysql | Run MariaDB with what its files say", "mariadb.service", [_SETTINGS])
    put("mysql | Install the command for accounts", role.file("accounts.py"), _COMMAND, mode="755")
    secret("mysql | Write the accounts", role.template("accounts.json.j2"), _ACCOUNTS)
    ensure("mysql | Have the database and the accounts", [_COMMAND], [_ACCOUNTS])
    authority = f"{role.vars['mysql_bind_address']}:{role.vars['mysql_port']}"
    prove("mysql | Prove that each account can log in", shlex.join([_COMMAND, "--prove", authority, _ACCOUNTS]))


def _write_settings(role: Role) -> None:
    for path in host.loop(["/etc/mysql", "/etc/mysql/mariadb.conf.d", "/etc/systemd/system/mariadb.service.d"]):
        directory(f"mysql | Make the directories of the settings: {path}", path)
    put("mysql | Write the settings", role.template("dist_test.cnf.j2"), _SETTINGS)
    put("mysql | Write the unit's settings", role.template("mariadb.conf.j2"), _UNIT_SETTINGS)
