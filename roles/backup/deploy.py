"""Dumps of the database; the same as tasks/main.yml."""

import shlex
from typing import IO

from pyinfra.context import host
from pyinfra.operations import files

from roles.operations import packages, prove, script, service
from roles.role import Role

_COMMAND = "/usr/local/lib/dist_test/backup"
_UNITS = "/etc/systemd/system"


def deploy(role: Role) -> None:
    """Dump the database every night, and have one dump that was checked."""
    directory, database = role.vars["backup_dir"], role.vars["backup_mysql_database"]
    packages("backup | Install packages", ["mariadb-client", "zstd"])
    files.directory(
        name="backup | Make the directory of the dumps", path=directory, user="root", group="root", mode="700"
    )
    _put("Install the command", role.file("backup.py"), _COMMAND, mode="755")
    for unit in host.loop(["dist-test-backup.service", "dist-test-backup.timer"]):
        _put(f"Write the units: {unit}", role.template(f"{unit}.j2"), f"{_UNITS}/{unit}")
    service(
        "backup | Run the timer with what its files say",
        "dist-test-backup.timer",
        [f"{_UNITS}/dist-test-backup.service"],
    )
    status = shlex.join([_COMMAND, "status", directory, database])
    script("backup | Make the first dump and check it", "systemctl start dist-test-backup.service", status)
    prove("backup | Prove that there is a dump that can be restored", f"{status} | grep --line-regexp unchanged")


def _put(sentence: str, source: str | IO[str], path: str, *, mode: str = "644") -> None:
    files.put(name=f"backup | {sentence}", src=source, dest=path, user="root", group="root", mode=mode)
