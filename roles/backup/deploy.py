"""Dumps of the database; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host

from roles.operations import LIBRARY, directory, packages, prove, put, script, service
from roles.role import Role

_COMMAND = f"{LIBRARY}/backup"
_UNITS = "/etc/systemd/system"


def deploy(role: Role) -> None:
    """Dump the database every night, and have one dump that was checked."""
    dumps, database = role.vars["backup_dir"], role.vars["backup_mysql_database"]
    packages("backup | Install packages", ["mariadb-client", "zstd"])
    directory("backup | Make the directory of the dumps", dumps, mode="700")
    put("backup | Install the command", role.file("backup.py"), _COMMAND, mode="755")
    for unit in host.loop(["dist-test-backup.service", "dist-test-backup.timer"]):
        put(f"backup | Write the units: {unit}", role.template(f"{unit}.j2"), f"{_UNITS}/{unit}")
    service(
        "backup | Run the timer with what its files say",
        "dist-test-backup.timer",
        [f"{_UNITS}/dist-test-backup.service"],
    )
    status = shlex.join([_COMMAND, "status", dumps, database])
    script("backup | Make the first dump and check it", "systemctl start dist-test-backup.service", status)
    prove("backup | Prove that there is a dump that can be restored", f"{status} | grep --line-regexp unchanged")
