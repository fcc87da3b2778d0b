"""The role autoscaler for pyinfra; the same as tasks/main.yml."""

import shlex

from roles.operations import LIBRARY, prove, put, secret, service
from roles.role import Role

_UNIT = "dist-test-autoscaler.service"
_ACCOUNTS = "/etc/dist_test/autoscale.cnf"
_KEY = "/etc/dist_test/autoscale-key.json"
_SETTINGS = "/etc/dist_test/autoscale.toml"
_PROGRAM = "/usr/local/bin/dist-test-autoscale"
_PROOF = f"{LIBRARY}/autoscaler-prove"


def deploy(role: Role) -> None:
    """Run the autoscaler, once its settings were found good."""
    secret("autoscaler | Write the accounts", role.template("autoscale.cnf.j2"), _ACCOUNTS)
    keys = [_KEY] if role.vars["autoscaler_key"] else []
    if keys:
        secret("autoscaler | Write the key of the service account", role.template("autoscale-key.json.j2"), _KEY)
    put("autoscaler | Write the settings", role.template("autoscale.toml.j2"), _SETTINGS)
    put("autoscaler | Write the program for people", role.template("dist-test-autoscale.j2"), _PROGRAM, mode="755")
    # Before the service, which goes on with what it has read if there are any.
    prove(
        "autoscaler | Look for mistakes in the settings",
        shlex.join([_PROGRAM, "validate-config", "--config", _SETTINGS]),
    )
    put("autoscaler | Write the unit", role.template(f"{_UNIT}.j2"), f"/etc/systemd/system/{_UNIT}")
    put("autoscaler | Install the proof", role.file("prove.py"), _PROOF, mode="755")
    reads = [_ACCOUNTS, _SETTINGS, "/opt/dist_test/current", *keys]
    service("autoscaler | Run the unit with what its files say", _UNIT, reads)
    address = f"{role.vars['autoscaler_bind_address']}:{role.vars['autoscaler_port']}"
    prove("autoscaler | Prove that it decides, or stands by", shlex.join([_PROOF, address]))
