"""What every host of a cluster has; the same as tasks/main.yml."""

import shlex
from pathlib import PurePath
from typing import IO

from pyinfra.context import host
from pyinfra.operations import files, server

from roles.operations import packages, prove, script, service
from roles.role import Role

LIBRARY = "/usr/local/lib/dist_test"
DIRECTORIES = (
    "/etc/dist_test",
    "/etc/systemd/journald.conf.d",
    "/opt/dist_test",
    "/opt/dist_test/releases",
    "/opt/dist_test/wheels",
    LIBRARY,
    "/var/lib/dist_test",
)
COMMANDS = {"service.py": "service", "release.py": "release", "firewall.sh": "firewall"}


def deploy(role: Role) -> None:
    """Set up the host, and dist_test on it where the inventory wants it."""
    packages("base | Install packages", [*role.vars["base_packages"], role.vars["base_clock_package"]])
    _make_account(role)
    for directory in host.loop(DIRECTORIES):
        files.directory(
            name=f"base | Make the directories: {directory}", path=directory, user="root", group="root", mode="755"
        )
    for file, command in host.loop(COMMANDS.items()):
        _put(f"Install the commands: {command}", role.file(file), f"{LIBRARY}/{command}", mode="755")
    _set_up_system(role)
    _set_up_firewall(role)
    if role.vars["base_install"]:
        _install_release(role)


def _put(sentence: str, source: str | IO[str], path: str, *, mode: str = "644") -> None:
    files.put(name=f"base | {sentence}", src=source, dest=path, user="root", group="root", mode=mode)


def _make_account(role: Role) -> None:
    user, uid = role.vars["base_user"], role.vars["base_uid"]
    server.group(name="base | Make the group", group=user, gid=uid, system=True)
    server.user(
        name="base | Make the account",
        user=user,
        uid=uid,
        group=user,
        home="/nonexistent",
        ensure_home=False,
        shell="/usr/sbin/nologin",
        system=True,
    )


def _set_up_system(role: Role) -> None:
    _put("Set the language", role.template("locale.j2"), "/etc/default/locale")
    journal = "/etc/systemd/journald.conf.d/dist_test.conf"
    _put("Bound the journal", role.template("journald.conf.j2"), journal)
    service("base | Run the journal", "systemd-journald.service", [journal])
    service("base | Run what keeps the clock right", role.vars["base_clock_unit"], [])


def _set_up_firewall(role: Role) -> None:
    rules, unit = "/etc/dist_test/firewall.nft", "dist-test-firewall.service"
    _put("Write the firewall's rules", role.template("firewall.nft.j2"), rules)
    _put("Write the firewall's unit", role.template(f"{unit}.j2"), f"/etc/systemd/system/{unit}")
    service("base | Run the firewall with what its files say", unit, [rules])
    wanted = "on" if role.vars["base_firewall"] else "off"
    _script("base | Have the firewall's table loaded", "firewall", wanted)


def install_beside(role: Role) -> None:
    """Have the release, and leave the one that services start from; the same as tasks/install.yml."""
    release, wheel = role.vars["base_release"], role.vars["base_wheel"]
    directory = f"/opt/dist_test/wheels/{release}"
    there, constraints = f"{directory}/{PurePath(wheel).name}", f"{directory}/constraints.txt"
    files.directory(
        name="base | Make the directory of the wheel", path=directory, user="root", group="root", mode="755"
    )
    _put("Bring the wheel", wheel, there)
    _put("Bring the constraints", role.vars["base_constraints"], constraints)
    extras = [f"{there}[{','.join(role.vars['base_extras'])}]"] if role.vars["base_extras"] else []
    more = [*role.vars["base_pip_arguments"], *extras]
    _script("base | Install the release", "release", "install", release, there, constraints, *more)


def _install_release(role: Role) -> None:
    install_beside(role)
    release = role.vars["base_release"]
    _script("base | Let services start from the release", "release", "link", release)
    _script("base | Delete old releases", "release", "prune", str(role.vars["base_keep_releases"]))
    for command in host.loop(role.vars["base_commands"]):
        files.link(
            name=f"base | Put the commands into the path: {command}",
            path=f"/usr/local/bin/{command}",
            target=f"/opt/dist_test/current/bin/{command}",
            user="root",
            group="root",
        )
    prove("base | Prove that dist_test starts", "/usr/local/bin/dist-test --version")


def _script(name: str, command: str, *words: str) -> None:
    program = f"{LIBRARY}/{command}"
    script(name, shlex.join([program, *words]), shlex.join([program, "--check", *words]))
