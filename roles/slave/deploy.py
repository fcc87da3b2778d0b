"""The role slave for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host
from pyinfra.operations import files, systemd

from roles import operations
from roles.role import Role

LIBRARY = "/usr/local/lib/dist_test"
UNITS = "/etc/systemd/system"
COMMANDS = {"task-users.sh": "task-users", "prove.sh": "slave-prove"}


def deploy(role: Role) -> None:
    operations.packages("slave | Install packages", ["nftables", *role.vars["slave_container_packages"]])
    for file, command in host.loop(COMMANDS.items()):
        files.put(
            name=f"slave | Install the commands: {command}",
            src=role.file(file),
            dest=f"{LIBRARY}/{command}",
            user="root",
            group="root",
            mode="755",
        )
    _make_users(role)
    _make_directories(role)
    _write_files(role)
    if role.vars["slave_started"]:
        _run(role)
    else:
        _enable()


def _make_users(role: Role) -> None:
    who = [str(role.vars[f"slave_{name}"]) for name in ("task_user_prefix", "task_uid_first", "task_users")]
    operations.script(
        "slave | Make the users that tasks run as",
        shlex.join([f"{LIBRARY}/task-users", *who]),
        shlex.join([f"{LIBRARY}/task-users", "--check", *who]),
    )


def _make_directories(role: Role) -> None:
    for path in host.loop((role.vars["slave_work_dir"], role.vars["slave_cache_dir"])):
        files.directory(
            name=f"slave | Make the directories that tasks pass through: {path}",
            path=path,
            user="root",
            group="root",
            mode="711",
        )


def _write_files(role: Role) -> None:
    operations.secret("slave | Write the settings", role.template("slave.cnf.j2"), "/etc/dist_test/slave.cnf")
    files.put(
        name="slave | Write the rules for tasks",
        src=role.template("task-firewall.nft.j2"),
        dest="/etc/dist_test/task-firewall.nft",
        user="root",
        group="root",
        mode="644",
    )
    for unit in host.loop(("dist-test-task-firewall", "dist-test-slave-configure", "dist-test-slave")):
        files.put(
            name=f"slave | Write the unit {unit}",
            src=role.template(f"{unit}.service.j2"),
            dest=f"{UNITS}/{unit}.service",
            user="root",
            group="root",
            mode="644",
        )


def _enable() -> None:
    for unit in host.loop(("dist-test-task-firewall.service", "dist-test-slave.service")):
        systemd.service(
            name=f"slave | Enable the units: {unit}", service=unit, running=None, enabled=True, daemon_reload=True
        )


def _run(role: Role) -> None:
    operations.service(
        "slave | Run the rules with what their files say",
        "dist-test-task-firewall.service",
        ["/etc/dist_test/task-firewall.nft"],
    )
    operations.service(
        "slave | Run the slave with what its files say",
        "dist-test-slave.service",
        ["/etc/dist_test/slave.cnf", "/opt/dist_test/current"],
    )
    settings = "/run/dist_test/slave.cnf" if role.vars["slave_metadata"] else "/etc/dist_test/slave.cnf"
    operations.prove(
        "slave | Prove that the slave takes tasks, and keeps its settings from them",
        shlex.join([f"{LIBRARY}/slave-prove", settings, role.vars["slave_task_user_prefix"]]),
    )
