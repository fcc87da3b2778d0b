"""Every setting there is: the one list behind the loader, its error messages and docs/reference/settings.md."""

import socket
from dataclasses import dataclass
from typing import Any

from dist_test.settings import values
from dist_test.settings.values import Parser


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key of the INI file. `default` is text as an operator would write it; None: there is no value unless set."""

    section: str
    key: str
    environment: str
    parse: Parser
    default: str | None
    help: str
    secret: bool = False

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"


def _setting(
    name: str, parse: Parser, default: str | None, help: str, *, environment: str = "", secret: bool = False
) -> Setting:
    section, _, key = name.partition(".")
    variable = environment or f"DIST_TEST_{section}_{key}".upper()
    return Setting(
        section=section, key=key, environment=variable, parse=parse, default=default, help=help, secret=secret
    )


def _dist_test(key: str, parse: Parser, default: str | None, help: str, *, secret: bool = False) -> Setting:
    return _setting(f"dist_test.{key}", parse, default, help, environment=f"DIST_TEST_{key}".upper(), secret=secret)


_PORT = values.integer(1, 65535)

# The names and variables of the first five sections are the original's (compatibility.md 4), with additions of ours.
CATALOG: tuple[Setting, ...] = (
    _dist_test("master", values.url, None, "Address of the master, for clients and slaves."),
    _dist_test("job_path", values.path, "~/.dist-test-last-job", "File in which the client remembers its last job."),
    _dist_test("user", values.text, None, "User name for HTTP Digest, for clients and slaves."),
    _dist_test("password", values.text, None, "Password for HTTP Digest, for clients and slaves.", secret=True),
    _dist_test("url_timeout", values.seconds, "60", "Seconds that a client waits for one answer of the master."),
    _dist_test(
        "allowed_ip_ranges",
        values.networks,
        "127.0.0.0/8, ::1/128",
        "Address ranges that may submit and cancel without credentials, separated by commas.",
    ),
    _dist_test(
        "accounts", values.text_map, "{}", "JSON object of user names and passwords for HTTP Digest.", secret=True
    ),
    _dist_test("log_dir", values.path, None, "Directory for log files; without it, services log to stderr."),
    _dist_test("submit_gce_metrics", values.boolean, "false", "Accepted for the original's files; has no effect."),
    _setting("isolate.server", values.url, None, "Address of the isolate server.", environment="ISOLATE_SERVER"),
    _setting(
        "isolate.home",
        values.path,
        None,
        "Accepted for the original's files; has no effect.",
        environment="ISOLATE_HOME",
    ),
    _setting(
        "isolate.cache_dir",
        values.path,
        "~/.cache/dist_test/blobs",
        "Directory of the cache of blobs that slaves and run-isolated share.",
        environment="ISOLATE_CACHE_DIR",
    ),
    _setting(
        "isolate.namespace",
        values.text,
        "default-gzip",
        "Namespace of the blobs on the isolate server.",
        environment="ISOLATE_NAMESPACE",
    ),
    _setting(
        "isolate.cache_max_bytes",
        values.size,
        "20G",
        "Size at which the cache drops what was used longest ago.",
        environment="ISOLATE_CACHE_MAX_BYTES",
    ),
    _setting(
        "isolate.cache_min_free_bytes",
        values.size,
        "2G",
        "Free space that the cache leaves on its disk.",
        environment="ISOLATE_CACHE_MIN_FREE_BYTES",
    ),
    _setting(
        "isolate.cache_max_items",
        values.integer(1, 10**8),
        "1000000",
        "Number of blobs that the cache keeps.",
        environment="ISOLATE_CACHE_MAX_ITEMS",
    ),
    _setting("aws.access_key", values.text, None, "Access key of the S3 account.", environment="AWS_ACCESS_KEY"),
    _setting(
        "aws.secret_key", values.text, None, "Secret key of the S3 account.", environment="AWS_SECRET_KEY", secret=True
    ),
    _setting(
        "aws.test_result_bucket", values.text, None, "Bucket for logs and artifacts.", environment="TEST_RESULT_BUCKET"
    ),
    _setting(
        "aws.endpoint_url",
        values.url,
        None,
        "Address of an S3 server other than Amazon's.",
        environment="AWS_ENDPOINT_URL",
    ),
    _setting("aws.region", values.text, "us-east-1", "Region that requests are signed for.", environment="AWS_REGION"),
    _setting(
        "aws.public_url",
        values.url,
        None,
        "Address of the S3 server in the links that people get, where it differs.",
        environment="AWS_PUBLIC_URL",
    ),
    _setting("mysql.host", values.text, None, "Host of the database.", environment="MYSQL_HOST"),
    _setting("mysql.port", _PORT, "3306", "Port of the database.", environment="MYSQL_PORT"),
    _setting("mysql.user", values.text, None, "Database account.", environment="MYSQL_USER"),
    _setting(
        "mysql.password", values.text, None, "Password of the database account.", environment="MYSQL_PWD", secret=True
    ),
    _setting("mysql.database", values.text, None, "Name of the database.", environment="MYSQL_DB"),
    _setting("beanstalk.host", values.text, None, "Host of beanstalkd.", environment="BEANSTALK_HOST"),
    _setting("beanstalk.port", _PORT, "11300", "Port of beanstalkd.", environment="BEANSTALK_PORT"),
    _setting("beanstalk.tube", values.text, "default", "Tube that holds the attempts.", environment="BEANSTALK_TUBE"),
    _setting(
        "beanstalk.time_to_run_seconds",
        values.integer(1, 3600),
        "60",
        "Seconds after which beanstalkd gives an entry to another slave unless it was touched.",
        environment="BEANSTALK_TIME_TO_RUN_SECONDS",
    ),
    _setting("master.bind", values.address, "0.0.0.0:8081", "Address that the master listens on."),
    _setting("master.workers", values.integer(1, 64), "2", "Worker processes of the master."),
    _setting("master.threads", values.integer(1, 256), "8", "Threads in each worker process."),
    _setting("master.trusted_proxies", values.networks, "", "Proxies whose X-Forwarded-For header is believed."),
    _setting("master.max_body_bytes", values.size, "256M", "Largest request body; larger ones are answered 413."),
    _setting(
        "master.submit_lease_seconds",
        values.seconds,
        "30",
        "Seconds after which a submit whose master is silent counts as dead.",
    ),
    _setting("master.reconcile_seconds", values.seconds, "15", "Seconds between two rounds of the reconciler."),
    _setting(
        "master.queued_grace_seconds",
        values.seconds,
        "30",
        "Seconds that an attempt may be queued before the reconciler looks for its entry.",
    ),
    _setting(
        "master.setup_retry_seconds",
        values.integer(0, 3600),
        "10",
        "Seconds before a task whose setup failed is tried again.",
    ),
    _setting(
        "master.sweep_seconds",
        values.seconds,
        "600",
        "Seconds in which the reconciler has asked beanstalkd about every queued attempt.",
    ),
    _setting("slave.slots", values.integer(1, 256), "1", "Tasks that run at the same time on this slave."),
    _setting(
        "slave.id",
        values.text,
        socket.gethostname(),
        "Name of this slave, unique in the cluster; the default is the host name.",
    ),
    _setting("slave.instance_id", values.text, "", "Id of the cloud instance."),
    _setting("slave.zone", values.text, "", "Zone of the cloud instance."),
    _setting("slave.mig", values.text, "", "Managed instance group of the cloud instance."),
    _setting("slave.template", values.text, "", "Instance template of the cloud instance."),
    _setting(
        "slave.work_dir",
        values.path,
        "/var/lib/dist_test/work",
        "Directory in which tasks run; the slave owns all of it. Short tasks run faster on a tmpfs.",
    ),
    _setting(
        "slave.task_user_prefix",
        values.text,
        "dist-test-task",
        "Tasks of slot N run as the user PREFIXN; only when the slave runs as root.",
    ),
    _setting("slave.create_task_users", values.boolean, "false", "Create missing task users with useradd."),
    _setting(
        "slave.pass_environment",
        values.names,
        "",
        "Variables of the slave's own environment that tasks see, separated by commas.",
    ),
    _setting("slave.environment", values.text_map, "{}", "JSON object of variables that tasks see."),
    _setting(
        "slave.lease_seconds",
        values.seconds,
        "60",
        "Seconds without a heartbeat after which another slave may take an attempt.",
    ),
    _setting(
        "slave.heartbeat_seconds",
        values.seconds,
        "5",
        "Seconds between two heartbeats; cancels are noticed at the same time.",
    ),
    _setting(
        "slave.drain_seconds",
        values.seconds,
        "3600",
        "Seconds that a drain lets running tasks go on before they are handed back.",
    ),
    _setting(
        "slave.busy_retry_seconds",
        values.integer(1, 3600),
        "30",
        "Seconds before an entry is looked at again whose attempt is leased to another slave.",
    ),
    _setting(
        "slave.kill_grace_seconds", values.seconds, "5", "Seconds between SIGTERM and SIGKILL at a task's time limit."
    ),
    _setting(
        "slave.output_limit_bytes",
        values.size,
        "20M",
        "Bytes kept of each of stdout and stderr: the head and the tail.",
    ),
    _setting("slave.artifact_limit_bytes", values.size, "200M", "Uncompressed bytes kept of a task's artifacts."),
    _setting(
        "slave.quarantine_seconds",
        values.seconds,
        "300",
        "Seconds between two tries of a slave on which setting up fails.",
    ),
    _setting(
        "slave.container_program",
        values.text,
        "docker",
        "Program that runs tasks with a docker_image: docker or podman.",
    ),
    _setting(
        "slave.container_global_args",
        values.arguments,
        "",
        "Arguments of the container program before `run`, quoted as for a shell.",
    ),
    _setting("slave.container_args", values.arguments, "", "Arguments of `run`, quoted as for a shell."),
    _setting(
        "slave.metrics_bind",
        values.address,
        None,
        "Address on which the slave serves /metrics; without it, it does not.",
    ),
    _setting(
        "slave.metadata_url",
        values.url,
        None,
        "Compute Engine's metadata server, watched for the news of a preemption; without it, nothing is watched.",
    ),
    _setting("isolate_server.bind", values.address, "0.0.0.0:4242", "Address that the isolate server listens on."),
    _setting(
        "isolate_server.store",
        values.store,
        "disk:/var/lib/dist_test/blobs",
        "Where blobs are kept: disk:/path or s3:BUCKET.",
    ),
    _setting("isolate_server.workers", values.integer(1, 64), "2", "Worker processes of the isolate server."),
    _setting("isolate_server.threads", values.integer(1, 256), "8", "Threads in each worker process."),
    _setting(
        "isolate_server.token_key",
        values.text,
        None,
        "Key that signs upload tickets; needed when several hosts serve one store.",
        secret=True,
    ),
)

BY_NAME = {setting.name: setting for setting in CATALOG}
SECTIONS = frozenset(setting.section for setting in CATALOG)


def default_value(setting: Setting) -> Any:
    """The parsed default; None when there is none."""
    return None if setting.default is None else setting.parse(setting.default)
