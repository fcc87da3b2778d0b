"""The role isolate for pyinfra; the same as tasks/main.yml."""

import shlex

from roles.operations import LIBRARY, directory, prove, put, secret, service
from roles.role import Role

_SETTINGS = "/etc/dist_test/isolate.cnf"
_UNIT = "dist-test-isolate.service"
_PROOF = f"{LIBRARY}/isolate-prove"


def deploy(role: Role) -> None:
    _make_directory(role)
    secret("isolate | Write the settings", role.template("isolate.cnf.j2"), _SETTINGS)
    put("isolate | Write the unit", role.template(f"{_UNIT}.j2"), f"/etc/systemd/system/{_UNIT}")
    put("isolate | Install the proof", role.file("prove.py"), _PROOF, mode="755")
    service("isolate | Run the unit with what its files say", _UNIT, [_SETTINGS, "/opt/dist_test/current"])
    address = f"{role.vars['isolate_bind_address']}:{role.vars['isolate_port']}"
    prove("isolate | Prove that a blob can be stored and fetched", shlex.join([_PROOF, address]))


def _make_directory(role: Role) -> None:
    kind, _, path = role.vars["isolate_store"].partition(":")
    if kind == "disk":
        user = role.vars["isolate_user"]
        directory("isolate | Make the directory of the blobs", path, owner=user, mode="700")
