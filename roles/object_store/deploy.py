"""The role object_store for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host
from pyinfra.operations import files, server

from roles.operations import packages, prove, script, secret, service
from roles.role import Role

_IDENTITIES = "/etc/dist_test/object_store.json"
_UNITS = "/etc/systemd/system"
_UNIT = "dist-test-object-store.service"
_SOCKET = "dist-test-object-store-s3.socket"
_PROXY = "dist-test-object-store-s3.service"
_COMMANDS = "/usr/local/lib/dist_test/object-store-"


def deploy(role: Role) -> None:
    packages("object_store | Install packages", ["python3-venv"])
    _make_account(role)
    _install(role)
    secret("object_store | Write the identities", role.template("identities.json.j2"), _IDENTITIES)
    _write_units(role)
    service("object_store | Run the unit with what its files say", _UNIT, [_IDENTITIES])
    service("object_store | Open the port with what its files say", _SOCKET, [f"{_UNITS}/{_PROXY}"])
    _make_buckets(role)


def _make_account(role: Role) -> None:
    user, uid = role.vars["object_store_user"], role.vars["object_store_uid"]
    server.group(name="object_store | Make the group", group=user, gid=uid, system=True)
    server.user(
        name="object_store | Make the account",
        user=user,
        uid=uid,
        group=user,
        home="/nonexistent",
        ensure_home=False,
        create_home=False,
        shell="/usr/sbin/nologin",
        system=True,
    )
    files.directory(
        name="object_store | Make the data directory",
        path=role.vars["object_store_data_dir"],
        user=user,
        group=user,
        mode="700",
    )


def _install(role: Role) -> None:
    for file in host.loop(["install.sh", "buckets.py", "prove.py"]):
        command = _COMMANDS + file.partition(".")[0]
        files.put(
            name=f"object_store | Install the commands: {command}",
            src=role.file(file),
            dest=command,
            user="root",
            group="root",
            mode="755",
        )
    _script(
        "object_store | Install SeaweedFS",
        "install",
        [role.vars["object_store_version"], *role.vars["object_store_pip_arguments"]],
    )


def _write_units(role: Role) -> None:
    for unit in host.loop([_UNIT, _PROXY, _SOCKET]):
        files.put(
            name=f"object_store | Write the units: {unit}",
            src=role.template(f"{unit}.j2"),
            dest=f"{_UNITS}/{unit}",
            user="root",
            group="root",
            mode="644",
        )


def _make_buckets(role: Role) -> None:
    buckets = role.vars["object_store_buckets"]
    weed = f"/opt/seaweedfs/{role.vars['object_store_version']}/bin/weed"
    _script("object_store | Make the buckets", "buckets", [weed, *buckets])
    address = f"{role.vars['object_store_bind_address']}:{role.vars['object_store_port']}"
    prove(
        "object_store | Prove that an object can be put, read and deleted",
        shlex.join([f"{_COMMANDS}prove", _IDENTITIES, address, *buckets]),
    )


def _script(name: str, command: str, arguments: list[str]) -> None:
    program = _COMMANDS + command
    script(name, shlex.join([program, *arguments]), check=shlex.join([program, "--check", *arguments]))
