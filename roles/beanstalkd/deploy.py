"""The queue; the same as tasks/main.yml."""

import shlex

from pyinfra.operations import files, server, systemd

from roles.operations import LIBRARY, directory, packages, prove, put, service
from roles.role import Role

_SETTINGS = "/etc/systemd/system/beanstalkd.service.d"
_PROOF = f"{LIBRARY}/beanstalkd-prove"


def deploy(role: Role) -> None:
    """Run beanstalkd."""
    _write_settings(role)
    packages("beanstalkd | Install packages", ["beanstalkd"])
    directory(
        "beanstalkd | Make the directory of the binlog",
        role.vars["beanstalkd_binlog_dir"],
        owner="beanstalkd",
        mode="750",
    )
    put("beanstalkd | Install the proof", role.file("prove.py"), _PROOF, mode="755")
    systemd.service(name="beanstalkd | Stop the package's socket", service="beanstalkd.socket", running=False)
    service("beanstalkd | Run beanstalkd with what its files say", "beanstalkd.service")
    authority = f"{role.vars['beanstalkd_bind_address']}:{role.vars['beanstalkd_port']}"
    prove("beanstalkd | Prove that an entry can be put, reserved and deleted", shlex.join([_PROOF, authority]))


def empty(role: Role) -> None:
    """Lose all entries; the masters put again what the database knows of. The same as tasks/empty.yml."""
    binlog = shlex.quote(role.vars["beanstalkd_binlog_dir"])
    systemd.service(name="beanstalkd | Stop beanstalkd", service="beanstalkd.service", running=False)
    server.shell(name="beanstalkd | Delete its log", commands=[f"rm -f {binlog}/binlog.*"])
    systemd.service(name="beanstalkd | Start beanstalkd", service="beanstalkd.service", running=True)


def _write_settings(role: Role) -> None:
    # Before the package, which starts what it brings: a socket on loopback that wins over the service's own address.
    files.link(
        name="beanstalkd | Mask the package's socket",
        path="/etc/systemd/system/beanstalkd.socket",
        target="/dev/null",
        user="root",
        group="root",
    )
    directory("beanstalkd | Make the directory of the settings", _SETTINGS)
    put("beanstalkd | Write the settings", role.template("beanstalkd.conf.j2"), f"{_SETTINGS}/dist_test.conf")
