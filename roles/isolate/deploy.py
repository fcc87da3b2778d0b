"""The role isolate for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host

from roles.operations import LIBRARY, directory, prove, put, secret, service
from roles.role import Role

_SETTINGS = "/etc/dist_test/isolate.cnf"
_UNIT = "dist-test-isolate.service"
_UNITS = "/etc/systemd/system"
_PROOF = f"{LIBRARY}/isolate-prove"


def deploy(role: Role) -> None:
    _make_directory(role)
    for file in host.loop(["isolate.cnf", "isolate-prune.cnf"]):
        secret(f"isolate | Write the settings: {file}", role.template(f"{file}.j2"), f"/etc/dist_test/{file}")
    put("isolate | Write the unit", role.template(f"{_UNIT}.j2"), f"{_UNITS}/{_UNIT}")
    put("isolate | Install the proof", role.file("prove.py"), _PROOF, mode="755")
    service("isolate | Run the unit with what its files say", _UNIT, [_SETTINGS, "/opt/dist_test/current"])
    _prune(role)
    address = f"{role.vars['isolate_bind_address']}:{role.vars['isolate_port']}"
    prove("isolate | Prove that a blob can be stored and fetched", shlex.join([_PROOF, address]))


def _make_directory(role: Role) -> None:
    kind, _, path = role.vars["isolate_store"].partition(":")
    if kind == "disk":
        user = role.vars["isolate_user"]
        directory("isolate | Make the directory of the blobs", path, owner=user, mode="700")


def _prune(role: Role) -> None:
    for unit in host.loop(["dist-test-isolate-prune.service", "dist-test-isolate-prune.timer"]):
        put(f"isolate | Write the units of pruning: {unit}", role.template(f"{unit}.j2"), f"{_UNITS}/{unit}")
    service(
        "isolate | Run the timer of pruning with what its files say",
        "dist-test-isolate-prune.timer",
        [f"{_UNITS}/dist-test-isolate-prune.service"],
    )
