"""The role object_store for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host

from roles.operations import LIBRARY, account, directory, ensure, packages, prove, put, secret, service
from roles.role import Role

_IDENTITIES = "/etc/dist_test/object_store.json"
_UNITS = "/etc/systemd/system"
_UNIT = "dist-test-object-store.service"
_SOCKET = "dist-test-object-store-s3.socket"
_PROXY = "dist-test-object-store-s3.service"
_COMMANDS = f"{LIBRARY}/object-store-"


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
    user = role.vars["object_store_user"]
    account("object_store", user, role.vars["object_store_uid"])
    directory("object_store | Make the data directory", role.vars["object_store_data_dir"], owner=user, mode="700")


def _install(role: Role) -> None:
    for file in host.loop(["install.sh", "buckets.py", "prove.py"]):
        command = _COMMANDS + file.partition(".")[0]
        put(f"object_store | Install the commands: {command}", role.file(file), command, mode="755")
    words = [role.vars["object_store_version"], *role.vars["object_store_pip_arguments"]]
    ensure("object_store | Install SeaweedFS", [f"{_COMMANDS}install"], words)


def _write_units(role: Role) -> None:
    for unit in host.loop([_UNIT, _PROXY, _SOCKET]):
        put(f"object_store | Write the units: {unit}", role.template(f"{unit}.j2"), f"{_UNITS}/{unit}")


def _make_buckets(role: Role) -> None:
    buckets = role.vars["object_store_buckets"]
    weed = f"/opt/seaweedfs/{role.vars['object_store_version']}/bin/weed"
    ensure("object_store | Make the buckets", [f"{_COMMANDS}buckets"], [weed, *buckets])
    address = f"{role.vars['object_store_bind_address']}:{role.vars['object_store_port']}"
    prove(
        "object_store | Prove that an object can be put, read and deleted",
        shlex.join([f"{_COMMANDS}prove", _IDENTITIES, address, *buckets]),
    )
