"""One frozen record of settings for each program, and the functions that load them."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from dist_test.settings.source import Source, configuration_path
from dist_test.settings.values import Network


@dataclass(frozen=True, kw_only=True)
class MysqlSettings:
    """How to reach the database."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str


@dataclass(frozen=True, kw_only=True)
class BeanstalkSettings:
    """How to reach beanstalkd."""

    host: str
    port: int
    tube: str
    time_to_run: timedelta


@dataclass(frozen=True, kw_only=True)
class AwsSettings:
    """How to reach the S3 server. `bucket` holds logs and artifacts."""

    access_key: str
    secret_key: str = field(repr=False)
    endpoint_url: str | None
    public_url: str | None
    region: str
    bucket: str


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Where blobs are cached, and how many."""

    directory: Path
    max_bytes: int
    min_free_bytes: int
    max_items: int


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """What the command line needs. `master` and `isolate_server` are None until set: not every command needs them."""

    path: Path | None
    master: str | None
    user: str | None
    password: str | None = field(repr=False)
    url_timeout_seconds: float
    job_path: Path
    isolate_server: str | None
    namespace: str
    cache: CacheSettings


@dataclass(frozen=True, kw_only=True)
class MasterSettings:
    """What the master needs."""

    bind: str
    workers: int
    threads: int
    trusted_proxies: tuple[Network, ...]
    max_body_bytes: int
    submit_lease: timedelta
    reconcile_every: timedelta
    queued_grace: timedelta
    setup_retry_seconds: int
    sweep_every: timedelta
    allowed_ip_ranges: tuple[Network, ...]
    accounts: Mapping[str, str] = field(repr=False)
    isolate_server: str | None
    log_dir: Path | None
    mysql: MysqlSettings
    beanstalk: BeanstalkSettings
    aws: AwsSettings

    @property
    def nonce_key(self) -> bytes:
        """A key that all masters of one cluster share without another setting: they share accounts and database."""
        accounts = "\n".join(f"{user}\0{password}" for user, password in sorted(self.accounts.items()))
        return hmac.digest(self.mysql.password.encode(), b"dist_test nonce\0" + accounts.encode(), hashlib.sha256)


@dataclass(frozen=True, kw_only=True)
class SlaveSettings:
    """What a slave needs."""

    slave_id: str
    instance_id: str
    zone: str
    mig: str
    template: str
    slots: int
    work_dir: Path
    task_user_prefix: str
    create_task_users: bool
    pass_environment: tuple[str, ...]
    environment: Mapping[str, str]
    lease: timedelta
    heartbeat_every: timedelta
    drain_limit: timedelta
    busy_retry: timedelta
    kill_grace: timedelta
    output_limit_bytes: int
    artifact_limit_bytes: int
    quarantine_retry: timedelta
    container_program: str
    container_global_args: tuple[str, ...]
    container_args: tuple[str, ...]
    metrics_bind: str | None
    metadata_url: str | None
    master: str
    user: str | None
    password: str | None = field(repr=False)
    url_timeout_seconds: float
    isolate_server: str
    namespace: str
    cache: CacheSettings
    log_dir: Path | None
    mysql: MysqlSettings
    beanstalk: BeanstalkSettings
    aws: AwsSettings


@dataclass(frozen=True, kw_only=True)
class IsolateSettings:
    """What the isolate server needs. `aws` is None for a store on disk."""

    bind: str
    store: str
    workers: int
    threads: int
    token_key: str | None = field(repr=False)
    log_dir: Path | None
    aws: AwsSettings | None


def load_client_settings(environ: Mapping[str, str] | None = None) -> ClientSettings:
    """Read what the command line needs. Raises ConfigurationError."""
    source = _open(environ)
    settings = ClientSettings(
        path=source.path,
        master=source.get("dist_test.master"),
        user=source.get("dist_test.user"),
        password=source.get("dist_test.password"),
        url_timeout_seconds=source.get("dist_test.url_timeout"),
        job_path=source.get("dist_test.job_path"),
        isolate_server=source.get("isolate.server"),
        namespace=source.get("isolate.namespace"),
        cache=_cache(source),
    )
    source.check()
    return settings


def load_master_settings(environ: Mapping[str, str] | None = None) -> MasterSettings:
    """Read what the master needs. Raises ConfigurationError with everything that is wrong."""
    source = _open(environ)
    settings = MasterSettings(
        bind=source.get("master.bind"),
        workers=source.get("master.workers"),
        threads=source.get("master.threads"),
        trusted_proxies=source.get("master.trusted_proxies"),
        max_body_bytes=source.get("master.max_body_bytes"),
        submit_lease=_duration(source, "master.submit_lease_seconds"),
        reconcile_every=_duration(source, "master.reconcile_seconds"),
        queued_grace=_duration(source, "master.queued_grace_seconds"),
        setup_retry_seconds=source.get("master.setup_retry_seconds"),
        sweep_every=_duration(source, "master.sweep_seconds"),
        allowed_ip_ranges=source.get("dist_test.allowed_ip_ranges"),
        accounts=source.get("dist_test.accounts"),
        isolate_server=source.get("isolate.server"),
        log_dir=source.get("dist_test.log_dir"),
        mysql=_mysql(source),
        beanstalk=_beanstalk(source),
        aws=_aws(source),
    )
    source.check()
    return settings


def load_slave_settings(environ: Mapping[str, str] | None = None) -> SlaveSettings:
    """Read what a slave needs. Raises ConfigurationError with everything that is wrong."""
    source = _open(environ)
    settings = SlaveSettings(
        slave_id=source.get("slave.id"),
        instance_id=source.get("slave.instance_id"),
        zone=source.get("slave.zone"),
        mig=source.get("slave.mig"),
        template=source.get("slave.template"),
        slots=source.get("slave.slots"),
        work_dir=source.get("slave.work_dir"),
        task_user_prefix=source.get("slave.task_user_prefix"),
        create_task_users=source.get("slave.create_task_users"),
        pass_environment=source.get("slave.pass_environment"),
        environment=source.get("slave.environment"),
        lease=_duration(source, "slave.lease_seconds"),
        heartbeat_every=_duration(source, "slave.heartbeat_seconds"),
        drain_limit=_duration(source, "slave.drain_seconds"),
        busy_retry=_duration(source, "slave.busy_retry_seconds"),
        kill_grace=_duration(source, "slave.kill_grace_seconds"),
        output_limit_bytes=source.get("slave.output_limit_bytes"),
        artifact_limit_bytes=source.get("slave.artifact_limit_bytes"),
        quarantine_retry=_duration(source, "slave.quarantine_seconds"),
        container_program=source.get("slave.container_program"),
        container_global_args=source.get("slave.container_global_args"),
        container_args=source.get("slave.container_args"),
        metrics_bind=source.get("slave.metrics_bind"),
        metadata_url=source.get("slave.metadata_url"),
        master=source.require("dist_test.master"),
        user=source.get("dist_test.user"),
        password=source.get("dist_test.password"),
        url_timeout_seconds=source.get("dist_test.url_timeout"),
        isolate_server=source.require("isolate.server"),
        namespace=source.get("isolate.namespace"),
        cache=_cache(source),
        log_dir=source.get("dist_test.log_dir"),
        mysql=_mysql(source),
        beanstalk=_beanstalk(source),
        aws=_aws(source),
    )
    if not source.problems and settings.heartbeat_every * 2 > settings.lease:
        source.problems.append(
            f"slave.heartbeat_seconds is {settings.heartbeat_every.total_seconds():g}, more than half of"
            f" slave.lease_seconds ({settings.lease.total_seconds():g}): a late one would lose the lease; lower it"
        )
    source.check()
    return settings


def load_isolate_settings(environ: Mapping[str, str] | None = None) -> IsolateSettings:
    """Read what the isolate server needs. Raises ConfigurationError with everything that is wrong."""
    source = _open(environ)
    store: str | None = source.get("isolate_server.store")
    kind, _, where = (store or "").partition(":")
    settings = IsolateSettings(
        bind=source.get("isolate_server.bind"),
        store=store or "",
        workers=source.get("isolate_server.workers"),
        threads=source.get("isolate_server.threads"),
        token_key=source.get("isolate_server.token_key"),
        log_dir=source.get("dist_test.log_dir"),
        aws=_aws(source, bucket=where) if kind == "s3" else None,
    )
    source.check()
    return settings


def load_mysql_settings(environ: Mapping[str, str] | None = None) -> MysqlSettings:
    """Read how to reach the database, and nothing else. Raises ConfigurationError."""
    source = _open(environ)
    settings = _mysql(source)
    source.check()
    return settings


def load_beanstalk_settings(environ: Mapping[str, str] | None = None) -> BeanstalkSettings:
    """Read how to reach beanstalkd, and nothing else. Raises ConfigurationError."""
    source = _open(environ)
    settings = _beanstalk(source)
    source.check()
    return settings


def _open(environ: Mapping[str, str] | None) -> Source:
    environ = os.environ if environ is None else environ
    return Source(configuration_path(environ), environ)


def _duration(source: Source, name: str) -> timedelta:
    # A value that could not be parsed is None here, and is reported by source.check().
    return timedelta(seconds=source.get(name) or 0)


def _mysql(source: Source) -> MysqlSettings:
    return MysqlSettings(
        host=source.require("mysql.host"),
        port=source.get("mysql.port"),
        user=source.require("mysql.user"),
        password=source.get("mysql.password") or "",
        database=source.require("mysql.database"),
    )


def _beanstalk(source: Source) -> BeanstalkSettings:
    return BeanstalkSettings(
        host=source.require("beanstalk.host"),
        port=source.get("beanstalk.port"),
        tube=source.get("beanstalk.tube"),
        time_to_run=_duration(source, "beanstalk.time_to_run_seconds"),
    )


def _aws(source: Source, *, bucket: str | None = None) -> AwsSettings:
    return AwsSettings(
        access_key=source.require("aws.access_key"),
        secret_key=source.require("aws.secret_key"),
        endpoint_url=source.get("aws.endpoint_url"),
        public_url=source.get("aws.public_url"),
        region=source.get("aws.region"),
        bucket=bucket or source.require("aws.test_result_bucket"),
    )


def _cache(source: Source) -> CacheSettings:
    return CacheSettings(
        directory=source.get("isolate.cache_dir"),
        max_bytes=source.get("isolate.cache_max_bytes"),
        min_free_bytes=source.get("isolate.cache_min_free_bytes"),
        max_items=source.get("isolate.cache_max_items"),
    )
