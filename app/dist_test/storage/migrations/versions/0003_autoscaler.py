"""What the autoscaler remembers: who leads and with which state, what was decided, what an operator has pinned."""

from alembic import op

from dist_test.storage.migrations.serving import serve, withdraw

revision = "0003"
down_revision = "0002"

TABLE_OPTIONS = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"

TABLES = {
    "autoscale_state": """
        id TINYINT NOT NULL,
        epoch BIGINT UNSIGNED NOT NULL DEFAULT 0,
        leader VARCHAR(200) NOT NULL DEFAULT '',
        led_since DATETIME(6) NULL,
        saved_at DATETIME(6) NULL,
        state LONGTEXT NULL,
        summary LONGTEXT NULL,
        PRIMARY KEY (id)
    """,
    "autoscale_audit": """
        audit_id BIGINT NOT NULL AUTO_INCREMENT,
        at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        epoch BIGINT UNSIGNED NOT NULL,
        leader VARCHAR(200) NOT NULL,
        hold VARCHAR(32) NULL,
        desired INT NULL,
        document LONGTEXT NOT NULL,
        PRIMARY KEY (audit_id),
        KEY at (at)
    """,
    "autoscale_pins": """
        group_name VARCHAR(200) NOT NULL,
        size INT UNSIGNED NULL,
        pinned_by VARCHAR(200) NOT NULL DEFAULT '',
        pinned_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        PRIMARY KEY (group_name)
    """,
}


def upgrade() -> None:
    for name, columns in TABLES.items():
        op.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns}) {TABLE_OPTIONS}")
    serve(revision, since="0001")


def downgrade() -> None:
    withdraw(revision)
    for name in TABLES:
        op.execute(f"DROP TABLE IF EXISTS {name}")
