"""What every host of a cluster has; the same as tasks/main.yml."""

from pathlib import PurePath

from pyinfra.context import host
from pyinfra.operations import files

from roles.operations import LIBRARY, account, directory, ensure, packages, prove, put, service
from roles.role import Role

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
_RELEASE = [f"{LIBRARY}/release"]


def deploy(role: Role) -> None:
    """Set up the host, and dist_test on it where the inventory wants it."""
    packages("base | Install packages", [*role.vars["base_packages"], role.vars["base_clock_package"]])
    account("base", role.vars["base_user"], role.vars["base_uid"])
    for path in host.loop(DIRECTORIES):
        directory(f"base | Make the directories: {path}", path)
    for file, command in host.loop(COMMANDS.items()):
        put(f"base | Install the commands: {command}", role.file(file), f"{LIBRARY}/{command}", mode="755")
    _set_up_system(role)
    _set_up_firewall(role)
    if role.vars["base_install"]:
        _install_release(role)


def _set_up_system(role: Role) -> None:
    put("base | Set the language", role.template("locale.j2"), "/etc/default/locale")
    journal = "/etc/systemd/journald.conf.d/dist_test.conf"
    put("base | Bound the journal", role.template("journald.conf.j2"), journal)
    service("base | Run the journal", "systemd-journald.service", [journal])
    service("base | Run what keeps the clock right", role.vars["base_clock_unit"], [])


def _set_up_firewall(role: Role) -> None:
    rules, unit = "/etc/dist_test/firewall.nft", "dist-test-firewall.service"
    put("base | Write the firewall's rules", role.template("firewall.nft.j2"), rules)
    put("base | Write the firewall's unit", role.template(f"{unit}.j2"), f"/etc/systemd/system/{unit}")
    service("base | Run the firewall with what its files say", unit, [rules])
    wanted = "on" if role.vars["base_firewall"] else "off"
    ensure("base | Have the firewall's table loaded", [f"{LIBRARY}/firewall"], [wanted])


def install_beside(role: Role) -> None:
    """Have the release, and leave the one that services start from; the same as tasks/install.yml."""
    release, wheel = role.vars["base_release"], role.vars["base_wheel"]
    place = f"/opt/dist_test/wheels/{release}"
    there, constraints = f"{place}/{PurePath(wheel).name}", f"{place}/constraints.txt"
    directory("base | Make the directory of the wheel", place)
    put("base | Bring the wheel", wheel, there)
    put("base | Bring the constraints", role.vars["base_constraints"], constraints)
    extras = [f"{there}[{','.join(role.vars['base_extras'])}]"] if role.vars["base_extras"] else []
    more = [*role.vars["base_pip_arguments"], *extras]
    ensure("base | Install the release", _RELEASE, ["install", release, there, constraints, *more])


def _install_release(role: Role) -> None:
    install_beside(role)
    release = role.vars["base_release"]
    ensure("base | Let services start from the release", _RELEASE, ["link", release])
    ensure("base | Delete old releases", _RELEASE, ["prune", str(role.vars["base_keep_releases"])])
    for command in host.loop(role.vars["base_commands"]):
        files.link(
            name=f"base | Put the commands into the path: {command}",
            path=f"/usr/local/bin/{command}",
            target=f"/opt/dist_test/current/bin/{command}",
            user="root",
            group="root",
        )
    prove("base | Prove that dist_test starts", "/usr/local/bin/dist-test --version")
