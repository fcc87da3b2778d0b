"""The role slave for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host
from pyinfra.operations import systemd

from roles.operations import LIBRARY, directory, ensure, packages, prove, put, secret, service
from roles.role import Role

UNITS = "/etc/systemd/system"
COMMANDS = {"task-users.sh": "task-users", "prove.sh": "slave-prove"}


def deploy(role: Role) -> None:
    packages("slave | Install packages", ["nftables", *role.vars["slave_container_packages"]])
    for file, command in host.loop(COMMANDS.items()):
        put(f"slave | Install the commands: {command}", role.file(file), f"{LIBRARY}/{command}", mode="755")
    _make_users(role)
    _make_directories(role)
    _write_files(role)
    if role.vars["slave_started"]:
        _run(role)
    else:
        _enable()


def _make_users(role: Role) -> None:
    who = [str(role.vars[f"slave_{name}"]) for name in ("task_user_prefix", "task_uid_first", "task_users")]
    ensure("slave | Make the users that tasks run as", [f"{LIBRARY}/task-users"], who)


def _make_directories(role: Role) -> None:
    for path in host.loop((role.vars["slave_work_dir"], role.vars["slave_cache_dir"])):
        directory(f"slave | Make the directories that tasks pass through: {path}", path, mode="711")


def _write_files(role: Role) -> None:
    secret("slave | Write the settings", role.template("slave.cnf.j2"), "/etc/dist_test/slave.cnf")
    put("slave | Write the rules for tasks", role.template("task-firewall.nft.j2"), "/etc/dist_test/task-firewall.nft")
    for unit in host.loop(("dist-test-task-firewall", "dist-test-slave-configure", "dist-test-slave")):
        put(f"slave | Write the unit {unit}", role.template(f"{unit}.service.j2"), f"{UNITS}/{unit}.service")


def _enable() -> None:
    for unit in host.loop(("dist-test-task-firewall.service", "dist-test-slave.service")):
        systemd.service(
            name=f"slave | Enable the units: {unit}", service=unit, running=None, enabled=True, daemon_reload=True
        )


def _run(role: Role) -> None:
    service(
        "slave | Run the rules with what their files say",
        "dist-test-task-firewall.service",
        ["/etc/dist_test/task-firewall.nft"],
    )
    service(
        "slave | Run the slave with what its files say",
        "dist-test-slave.service",
        ["/etc/dist_test/slave.cnf", "/opt/dist_test/current"],
    )
    settings = "/run/dist_test/slave.cnf" if role.vars["slave_metadata"] else "/etc/dist_test/slave.cnf"
    prove(
        "slave | Prove that the slave takes tasks, and keeps its settings from them",
        shlex.join([f"{LIBRARY}/slave-prove", settings, role.vars["slave_task_user_prefix"]]),
    )
