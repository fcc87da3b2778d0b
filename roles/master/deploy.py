"""The role master for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host
from pyinfra.operations import files

from roles.operations import LIBRARY, directory, ensure, packages, prove, put, secret, service
from roles.role import Role

_UNIT = "dist-test-master.service"
_UNITS = "/etc/systemd/system"
_COMMANDS = f"{LIBRARY}/master-"
_TLS = "/etc/dist_test/tls"
_DROP_IN = "/etc/systemd/system/nginx.service.d"
_SITE = "/etc/nginx/conf.d/dist_test.conf"
_DEBIANS_SITE = "/etc/nginx/sites-enabled/default"


def deploy(role: Role) -> None:
    packages("master | Install packages", ["nginx-light", "openssl"])
    for file in host.loop(["certificate.py", "prove.py", "reload.sh"]):
        command = _COMMANDS + file.partition(".")[0]
        put(f"master | Install the commands: {command}", role.file(file), command, mode="755")
    for file in host.loop(["master.cnf", "migrate.cnf", "prune.cnf"]):
        secret(f"master | Write the settings: {file}", role.template(f"{file}.j2"), f"/etc/dist_test/{file}")
    _migrate(role)
    _run_master(role)
    _prune(role)
    _provide_certificate(role)
    _run_nginx(role)
    _prove(role)


def _migrate(role: Role) -> None:
    accounts = {name: role.vars[f"master_{name}_user"] for name in ("slave", "autoscaler", "isolate")}
    grants = {"master": role.vars["master_mysql_user"], **{name: user for name, user in accounts.items() if user}}
    program = [
        "env",
        "DIST_TEST_CNF=/etc/dist_test/migrate.cnf",
        "/opt/dist_test/current/bin/dist-test-master",
        "migrate",
    ]
    hosts = ["--host", role.vars["master_mysql_client_hosts"]]
    options = hosts + [word for name, user in grants.items() for word in ("--grant", f"{name}={user}")]
    ensure("master | Bring the schema and the rights up to this release", program, options)


def _run_master(role: Role) -> None:
    put("master | Write the unit", role.template(f"{_UNIT}.j2"), f"{_UNITS}/{_UNIT}")
    service(
        "master | Run the unit with what its files say", _UNIT, ["/etc/dist_test/master.cnf", "/opt/dist_test/current"]
    )


def _prune(role: Role) -> None:
    for unit in host.loop(["dist-test-prune.service", "dist-test-prune.timer"]):
        put(f"master | Write the units of pruning: {unit}", role.template(f"{unit}.j2"), f"{_UNITS}/{unit}")
    service(
        "master | Run the timer of pruning with what its files say",
        "dist-test-prune.timer",
        [f"{_UNITS}/dist-test-prune.service"],
    )


def _provide_certificate(role: Role) -> None:
    directory("master | Make the directory of the certificate", _TLS)
    if role.vars["master_tls_certificate"]:
        put("master | Write the certificate", role.template("certificate.pem.j2"), f"{_TLS}/certificate.pem")
        secret("master | Write its key", role.template("key.pem.j2"), f"{_TLS}/key.pem")
        return
    here, others = role.vars["master_bind_address"], role.vars["master_other_names"]
    names = list(dict.fromkeys([role.vars["master_public_name"], here, *others]))
    ensure("master | Make a certificate", [f"{_COMMANDS}certificate"], [_TLS, *names])


def _run_nginx(role: Role) -> None:
    directory("master | Make the directory of the drop-in", _DROP_IN)
    put("master | Write the drop-in", role.file("nginx.service.conf"), f"{_DROP_IN}/dist_test.conf")
    put("master | Write the configuration of nginx", role.template("nginx.conf.j2"), _SITE)
    files.link(name="master | Remove Debian's own site", path=_DEBIANS_SITE, present=False)
    watched = [_SITE, "/etc/nginx/sites-enabled", f"{_TLS}/certificate.pem", f"{_TLS}/key.pem"]
    # Before the service, which goes on with what it has read if there are any.
    prove("master | Look for mistakes in the configuration of nginx", "/usr/sbin/nginx -t -q")
    service("master | Run nginx with what its files say", "nginx.service", watched, reloads=True)


def _prove(role: Role) -> None:
    buckets = [role.vars["master_s3_bucket"]] if role.vars["master_s3_upstream"] else []
    words = [f"{_COMMANDS}prove", role.vars["master_bind_address"], role.vars["master_public_name"], *buckets]
    prove("master | Prove that the master answers as it should", shlex.join(words))
