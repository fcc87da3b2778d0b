"""The role isolate for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.operations import files

from roles.operations import prove, secret, service
from roles.role import Role

_SETTINGS = "/etc/dist_test/isolate.cnf"
_UNIT = "dist-test-isolate.service"
_PROOF = "/usr/local/lib/dist_test/isolate-prove"


def deploy(role: Role) -> None:
    _make_directory(role)
    secret("isolate | Write the settings", role.template("isolate.cnf.j2"), _SETTINGS)
    files.put(
        name="isolate | Write the unit",
        src=role.template(f"{_UNIT}.j2"),
        dest=f"/etc/systemd/system/{_UNIT}",
        user="root",
        group="root",
        mode="644",
    )
    files.put(
        name="isolate | Install the proof",
        src=role.file("prove.py"),
        dest=_PROOF,
        user="root",
        group="root",
        mode="755",
    )
    service("isolate | Run the unit with what its files say", _UNIT, [_SETTINGS, "/opt/dist_test/current"])
    address = f"{role.vars['isolate_bind_address']}:{role.vars['isolate_port']}"
    prove("isolate | Prove that a blob can be stored and fetched", shlex.join([_PROOF, address]))


def _make_directory(role: Role) -> None:
    kind, _, path = role.vars["isolate_store"].partition(":")
    if kind == "disk":
        user = role.vars["isolate_user"]
        files.directory(name="isolate | Make the directory of the blobs", path=path, user=user, group=user, mode="700")
