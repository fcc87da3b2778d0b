"""The first schema.

Every session of ours has the time zone +00:00, so CURRENT_TIMESTAMP(6) is UTC. The columns of attempts have defaults
because storage.bulk.update_rows names only those it changes.

MySQL commits each DDL statement by itself, so a migration that was cut off is repeated from its start: every
statement here can be run again. There is no way back from here: that would be to drop the database.
"""

from alembic import op

revision = "0001"
down_revision = None

TABLE_OPTIONS = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

TABLES = (
    """
    jobs (
        job_key BIGINT NOT NULL AUTO_INCREMENT,
        job_id VARCHAR(200) NOT NULL,
        name VARCHAR(200) NOT NULL,
        project VARCHAR(200) NOT NULL,
        owner VARCHAR(200) NOT NULL,
        fingerprint CHAR(64) NOT NULL,
        state VARCHAR(16) NOT NULL,
        submit_claim INT UNSIGNED NOT NULL DEFAULT 1,
        submit_lease_until DATETIME(6) NULL,
        period INT UNSIGNED NOT NULL,
        first_tag DOUBLE NOT NULL,
        weight DOUBLE NOT NULL,
        max_failed_tasks INT UNSIGNED NULL,
        submitted_at DATETIME(6) NOT NULL,
        enqueued_at DATETIME(6) NULL,
        finished_at DATETIME(6) NULL,
        cancel_reason VARCHAR(1000) NULL,
        canceled_at DATETIME(6) NULL,
        total_tasks INT NOT NULL,
        finished_tasks INT NOT NULL DEFAULT 0,
        succeeded_tasks INT NOT NULL DEFAULT 0,
        failed_tasks INT NOT NULL DEFAULT 0,
        canceled_tasks INT NOT NULL DEFAULT 0,
        flaky_tasks INT NOT NULL DEFAULT 0,
        retrying_tasks INT NOT NULL DEFAULT 0,
        total_attempts INT NOT NULL,
        finished_attempts INT NOT NULL DEFAULT 0,
        succeeded_attempts INT NOT NULL DEFAULT 0,
        timed_out_attempts INT NOT NULL DEFAULT 0,
        retried_attempts INT NOT NULL DEFAULT 0,
        flaky_attempts INT NOT NULL DEFAULT 0,
        PRIMARY KEY (job_key),
        UNIQUE KEY job_id (job_id),
        KEY state (state),
        KEY owner_period (owner, period),
        KEY submitted (submitted_at)
    )
    """,
    """
    tasks (
        job_key BIGINT NOT NULL,
        task_index INT NOT NULL,
        isolate_hash VARCHAR(128) NOT NULL,
        description VARCHAR(2000) NOT NULL,
        timeout_seconds INT UNSIGNED NOT NULL,
        max_retries SMALLINT UNSIGNED NOT NULL,
        expected_seconds DOUBLE NULL,
        options MEDIUMTEXT NULL,
        PRIMARY KEY (job_key, task_index)
    )
    """,
    # `unfinished` serves the reconciler, the counts of running and retried attempts, and the autoscaler's sum of
    # remaining work; `virtual_time` makes the virtual time one seek.
    """
    attempts (
        job_key BIGINT NOT NULL,
        task_index INT NOT NULL,
        attempt SMALLINT UNSIGNED NOT NULL,
        prior_failures SMALLINT UNSIGNED NOT NULL DEFAULT 0,
        prior_setup_failures SMALLINT UNSIGNED NOT NULL DEFAULT 0,
        avoid_slaves TEXT NULL,
        avoid_count SMALLINT UNSIGNED NOT NULL DEFAULT 0,
        charge_seconds DOUBLE NOT NULL DEFAULT 0,
        period INT UNSIGNED NOT NULL DEFAULT 0,
        start_tag DOUBLE NOT NULL DEFAULT 0,
        finish_tag DOUBLE NOT NULL DEFAULT 0,
        priority INT UNSIGNED NOT NULL DEFAULT 0,
        delivery INT UNSIGNED NOT NULL DEFAULT 1,
        queue_server VARCHAR(32) NULL,
        queue_entry BIGINT UNSIGNED NULL,
        queued_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        has_started TINYINT NOT NULL DEFAULT 0,
        slave_id VARCHAR(200) NULL,
        claim INT UNSIGNED NOT NULL DEFAULT 0,
        claim_token CHAR(32) NULL,
        takeovers SMALLINT UNSIGNED NOT NULL DEFAULT 0,
        lease_until DATETIME(6) NULL,
        started_at DATETIME(6) NULL,
        finished_at DATETIME(6) NULL,
        outcome VARCHAR(16) NULL,
        exit_status INT NULL,
        duration_seconds DOUBLE NULL,
        message VARCHAR(1000) NULL,
        stdout_bytes BIGINT UNSIGNED NULL,
        stderr_bytes BIGINT UNSIGNED NULL,
        artifact_bytes BIGINT UNSIGNED NULL,
        logs_lost TINYINT NOT NULL DEFAULT 0,
        PRIMARY KEY (job_key, task_index, attempt),
        KEY unfinished (finished_at, job_key, has_started, priority, charge_seconds),
        KEY virtual_time (period, attempt, has_started, start_tag)
    )
    """,
    """
    events (
        event_id BIGINT NOT NULL AUTO_INCREMENT,
        at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        job_key BIGINT NOT NULL,
        task_index INT NULL,
        attempt SMALLINT UNSIGNED NULL,
        kind VARCHAR(16) NOT NULL,
        actor VARCHAR(200) NOT NULL,
        claim INT UNSIGNED NULL,
        delivery INT UNSIGNED NULL,
        detail VARCHAR(1000) NULL,
        PRIMARY KEY (event_id),
        KEY job (job_key, task_index, attempt)
    )
    """,
    """
    durations (
        duration_key CHAR(64) NOT NULL,
        project VARCHAR(200) NOT NULL,
        description VARCHAR(2000) NOT NULL,
        expected_seconds DOUBLE NOT NULL,
        runs INT UNSIGNED NOT NULL,
        updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        PRIMARY KEY (duration_key)
    )
    """,
    """
    fair_share (
        owner VARCHAR(200) NOT NULL,
        weight DOUBLE NOT NULL DEFAULT 1,
        period INT UNSIGNED NOT NULL,
        finish_tag DOUBLE NOT NULL DEFAULT 0,
        retry_charge DOUBLE NOT NULL DEFAULT 0,
        PRIMARY KEY (owner)
    )
    """,
    """
    busy_period (
        id TINYINT NOT NULL,
        period INT UNSIGNED NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    """
    slaves (
        slave_id VARCHAR(200) NOT NULL,
        instance_id VARCHAR(200) NOT NULL DEFAULT '',
        zone VARCHAR(200) NOT NULL DEFAULT '',
        mig VARCHAR(200) NOT NULL DEFAULT '',
        template VARCHAR(200) NOT NULL DEFAULT '',
        slots INT UNSIGNED NOT NULL,
        busy INT UNSIGNED NOT NULL DEFAULT 0,
        state VARCHAR(16) NOT NULL,
        want VARCHAR(16) NOT NULL DEFAULT 'run',
        message VARCHAR(1000) NOT NULL DEFAULT '',
        idle_since DATETIME(6) NULL,
        started_at DATETIME(6) NOT NULL,
        heartbeat DATETIME(6) NOT NULL,
        version VARCHAR(64) NOT NULL,
        PRIMARY KEY (slave_id)
    )
    """,
    """
    digest_nonces (
        nonce VARCHAR(200) NOT NULL,
        counter BIGINT UNSIGNED NOT NULL,
        seen_at DATETIME(6) NOT NULL,
        PRIMARY KEY (nonce),
        KEY seen (seen_at)
    )
    """,
)


def upgrade() -> None:
    for table in TABLES:
        op.execute(f"CREATE TABLE IF NOT EXISTS {table} {TABLE_OPTIONS}")
    op.execute("INSERT IGNORE INTO busy_period (id, period) VALUES (1, 1)")
