"""The tables, as the queries see them. The migrations make them; docs/reference/schema.md says what they hold.

Times are UTC with microseconds, always the database's own clock (UTC_TIMESTAMP(6)).
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.dialects.mysql import DATETIME

from dist_test.model.summary import COUNTER_NAMES

REVISION = "0005"  # the newest migration: what this version's services ask for

metadata = MetaData()


class Moment(TypeDecorator[datetime]):
    """A time with microseconds: UTC without a zone in the database, aware in Python."""

    impl = DATETIME(fsp=6)
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else value.replace(tzinfo=UTC)


AnyRow = Row[*tuple[Any, ...]]

jobs = Table(
    "jobs",
    metadata,
    Column("job_key", BigInteger, primary_key=True),
    Column("job_id", String(200)),
    Column("name", String(200)),
    Column("project", String(200)),
    Column("owner", String(200)),
    Column("fingerprint", String(64)),
    Column("state", String(16)),
    Column("submit_claim", Integer),
    Column("submit_lease_until", Moment),
    Column("period", Integer),
    Column("first_tag", Double),
    Column("weight", Double),
    Column("max_failed_tasks", Integer),
    Column("submitted_at", Moment),
    Column("enqueued_at", Moment),
    Column("finished_at", Moment),
    Column("cancel_reason", String(1000)),
    Column("canceled_at", Moment),
    *(Column(name, Integer) for name in COUNTER_NAMES),
)

tasks = Table(
    "tasks",
    metadata,
    Column("job_key", BigInteger, primary_key=True),
    Column("task_index", Integer, primary_key=True),
    Column("isolate_hash", String(128)),
    Column("description", String(2000)),
    Column("timeout_seconds", Integer),
    Column("max_retries", SmallInteger),
    Column("expected_seconds", Double),
    Column("options", Text),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_key", BigInteger, primary_key=True),
    Column("task_index", Integer, primary_key=True),
    Column("attempt", SmallInteger, primary_key=True),
    Column("prior_failures", SmallInteger),
    Column("prior_setup_failures", SmallInteger),
    Column("avoid_slaves", Text),
    Column("avoid_count", SmallInteger),
    Column("charge_seconds", Double),
    Column("period", Integer),
    Column("start_tag", Double),
    Column("finish_tag", Double),
    Column("priority", BigInteger),
    Column("delivery", Integer),
    Column("queue_server", String(32)),
    Column("queue_entry", BigInteger),
    Column("queued_at", Moment),
    Column("has_started", SmallInteger),
    Column("slave_id", String(200)),
    Column("claim", Integer),
    Column("claim_token", String(32)),
    Column("takeovers", SmallInteger),
    Column("lease_until", Moment),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("outcome", String(16)),
    Column("exit_status", Integer),
    Column("duration_seconds", Double),
    Column("message", String(1000)),
    Column("stdout_bytes", BigInteger),
    Column("stderr_bytes", BigInteger),
    Column("artifact_bytes", BigInteger),
    Column("logs_lost", SmallInteger),
)

events = Table(
    "events",
    metadata,
    Column("event_id", BigInteger, primary_key=True),
    Column("at", Moment),
    Column("job_key", BigInteger),
    Column("task_index", Integer),
    Column("attempt", SmallInteger),
    Column("kind", String(16)),
    Column("actor", String(200)),
    Column("claim", Integer),
    Column("delivery", Integer),
    Column("detail", String(1000)),
)

durations = Table(
    "durations",
    metadata,
    Column("duration_key", String(64), primary_key=True),
    Column("project", String(200)),
    Column("description", String(2000)),
    Column("expected_seconds", Double),
    Column("runs", Integer),
    Column("updated_at", Moment),
)

fair_share = Table(
    "fair_share",
    metadata,
    Column("owner", String(200), primary_key=True),
    Column("weight", Double),
    Column("period", Integer),
    Column("finish_tag", Double),
    Column("retry_charge", Double),
)

busy_period = Table(
    "busy_period",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("period", Integer),
)

slaves = Table(
    "slaves",
    metadata,
    Column("slave_id", String(200), primary_key=True),
    Column("instance_id", String(200)),
    Column("zone", String(200)),
    Column("mig", String(200)),
    Column("template", String(200)),
    Column("slots", Integer),
    Column("busy", Integer),
    Column("state", String(16)),
    Column("want", String(16)),
    Column("message", String(1000)),
    Column("idle_since", Moment),
    Column("started_at", Moment),
    Column("heartbeat", Moment),
    Column("version", String(64)),
)

digest_nonces = Table(
    "digest_nonces",
    metadata,
    Column("nonce", String(200), primary_key=True),
    Column("counter", BigInteger),
    Column("seen_at", Moment),
)

live_logs = Table(
    "live_logs",
    metadata,
    Column("job_key", BigInteger, primary_key=True),
    Column("task_index", Integer, primary_key=True),
    Column("attempt", SmallInteger, primary_key=True),
    Column("wanted_until", Moment),
    Column("claim", Integer),
    Column("written_at", Moment),
    Column("stdout_bytes", BigInteger),
    Column("stdout_tail", LargeBinary),
    Column("stderr_bytes", BigInteger),
    Column("stderr_tail", LargeBinary),
)

schema_revisions = Table(
    "schema_revisions",
    metadata,
    Column("revision", String(32), primary_key=True),
    Column("serves_since", String(32)),
)

autoscale_state = Table(
    "autoscale_state",
    metadata,
    Column("id", SmallInteger, primary_key=True),
    Column("epoch", BigInteger),
    Column("leader", String(200)),
    Column("led_since", Moment),
    Column("saved_at", Moment),
    Column("state", Text),
    Column("summary", Text),
)

autoscale_audit = Table(
    "autoscale_audit",
    metadata,
    Column("audit_id", BigInteger, primary_key=True),
    Column("at", Moment),
    Column("epoch", BigInteger),
    Column("leader", String(200)),
    Column("hold", String(32)),
    Column("desired", Integer),
    Column("document", Text),
)

autoscale_pins = Table(
    "autoscale_pins",
    metadata,
    Column("group_name", String(200), primary_key=True),
    Column("size", Integer),
    Column("pinned_by", String(200)),
    Column("pinned_at", Moment),
)
