"""The role master for pyinfra; the same as tasks/main.yml."""

import shlex

from pyinfra.context import host
from pyinfra.operations import files

from roles.operations import packages, prove, script, secret, service
from roles.role import Role

_UNIT = "dist-test-master.service"
_COMMANDS = "/usr/local/lib/dist_test/master-"
_TLS = "/etc/dist_test/tls"
_DROP_IN = "/etc/systemd/system/nginx.service.d"
_SITE = "/etc/nginx/conf.d/dist_test.conf"
_DEBIANS_SITE = "/etc/nginx/sites-enabled/default"


def deploy(role: Role) -> None:
    packages("master | Install packages", ["nginx-light", "openssl"])
    for file in host.loop(["certificate.py", "prove.py"]):
        command = _COMMANDS + file.removesuffix(".py")
        files.put(
            name=f"master | Install the commands: {command}",
            src=role.file(file),
            dest=command,
            user="root",
            group="root",
            mode="755",
        )
    for file in host.loop(["master.cnf", "migrate.cnf"]):
        secret(f"master | Write the settings: {file}", role.template(f"{file}.j2"), f"/etc/dist_test/{file}")
    _migrate(role)
    _run_master(role)
    _provide_certificate(role)
    _run_nginx(role)
    _prove(role)


def _migrate(role: Role) -> None:
    accounts = {name: role.vars[f"master_{name}_user"] for name in ("slave", "autoscaler")}
    grants = {"master": role.vars["master_mysql_user"], **{name: user for name, user in accounts.items() if user}}
    program = ["env", "DIST_TEST_CNF=/etc/dist_test/migrate.cnf", "/opt/dist_test/current/bin/dist-test-master"]
    hosts = ["--host", role.vars["master_mysql_client_hosts"]]
    options = hosts + [word for name, user in grants.items() for word in ("--grant", f"{name}={user}")]
    script(
        "master | Bring the schema and the rights up to this release",
        shlex.join([*program, "migrate", *options]),
        check=shlex.join([*program, "migrate", "--check", *options]),
    )


def _run_master(role: Role) -> None:
    files.put(
        name="master | Write the unit",
        src=role.template(f"{_UNIT}.j2"),
        dest=f"/etc/systemd/system/{_UNIT}",
        user="root",
        group="root",
        mode="644",
    )
    service(
        "master | Run the unit with what its files say", _UNIT, ["/etc/dist_test/master.cnf", "/opt/dist_test/current"]
    )


def _provide_certificate(role: Role) -> None:
    files.directory(
        name="master | Make the directory of the certificate", path=_TLS, user="root", group="root", mode="755"
    )
    if role.vars["master_tls_certificate"]:
        files.put(
            name="master | Write the certificate",
            src=role.template("certificate.pem.j2"),
            dest=f"{_TLS}/certificate.pem",
            user="root",
            group="root",
            mode="644",
        )
        secret("master | Write its key", role.template("key.pem.j2"), f"{_TLS}/key.pem")
        return
    here, others = role.vars["master_bind_address"], role.vars["master_other_names"]
    names = list(dict.fromkeys([role.vars["master_public_name"], here, *others]))
    program = f"{_COMMANDS}certificate"
    script(
        "master | Make a certificate",
        shlex.join([program, _TLS, *names]),
        check=shlex.join([program, "--check", _TLS, *names]),
    )


def _run_nginx(role: Role) -> None:
    files.directory(
        name="master | Make the directory of the drop-in", path=_DROP_IN, user="root", group="root", mode="755"
    )
    files.put(
        name="master | Write the drop-in",
        src=role.file("nginx.service.conf"),
        dest=f"{_DROP_IN}/dist_test.conf",
        user="root",
        group="root",
        mode="644",
    )
    files.put(
        name="master | Write the configuration of nginx",
        src=role.template("nginx.conf.j2"),
        dest=_SITE,
        user="root",
        group="root",
        mode="644",
    )
    files.link(name="master | Remove Debian's own site", path=_DEBIANS_SITE, present=False)
    watched = [_SITE, "/etc/nginx/sites-enabled", f"{_TLS}/certificate.pem", f"{_TLS}/key.pem"]
    service("master | Run nginx with what its files say", "nginx.service", watched)


def _prove(role: Role) -> None:
    buckets = [role.vars["master_s3_bucket"]] if role.vars["master_s3_upstream"] else []
    words = [f"{_COMMANDS}prove", role.vars["master_bind_address"], role.vars["master_public_name"], *buckets]
    prove("master | Prove that the master answers as it should", shlex.join(words))
