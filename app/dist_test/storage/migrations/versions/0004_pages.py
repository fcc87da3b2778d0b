"""What the pages need: the logs of tasks that run, and a task's earlier runs by its description."""

from alembic import op
from sqlalchemy import inspect

from dist_test.storage.migrations.serving import serve, withdraw

revision = "0004"
down_revision = "0003"

# A row is there while somebody looks: whoever wants to see a log writes `wanted_until`, the slave writes the rest.
LIVE_LOGS = """
    live_logs (
        job_key BIGINT NOT NULL,
        task_index INT NOT NULL,
        attempt SMALLINT UNSIGNED NOT NULL,
        wanted_until DATETIME(6) NOT NULL,
        claim INT UNSIGNED NULL,
        written_at DATETIME(6) NULL,
        stdout_bytes BIGINT UNSIGNED NOT NULL DEFAULT 0,
        stdout_tail MEDIUMBLOB NULL,
        stderr_bytes BIGINT UNSIGNED NOT NULL DEFAULT 0,
        stderr_tail MEDIUMBLOB NULL,
        PRIMARY KEY (job_key, task_index, attempt),
        KEY wanted (wanted_until)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(f"CREATE TABLE IF NOT EXISTS {LIVE_LOGS}")
    if not _is_indexed():
        # Descriptions of one project begin alike; 191 characters of four bytes are what any row format can index.
        op.execute("CREATE INDEX description ON tasks (description(191))")
    serve(revision, since="0001")


def downgrade() -> None:
    withdraw(revision)
    if _is_indexed():
        op.execute("DROP INDEX description ON tasks")
    op.execute("DROP TABLE IF EXISTS live_logs")


def _is_indexed() -> bool:
    """Whether an earlier run got this far. MySQL, unlike MariaDB, has no CREATE INDEX IF NOT EXISTS."""
    return any(index["name"] == "description" for index in inspect(op.get_bind()).get_indexes("tasks"))
