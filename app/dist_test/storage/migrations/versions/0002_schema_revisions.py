"""Remember with each revision which older programs it serves: they run on during an upgrade."""

from alembic import op

from dist_test.storage.migrations.serving import serve

revision = "0002"
down_revision = "0001"

TABLE = """
    CREATE TABLE IF NOT EXISTS schema_revisions (
        revision VARCHAR(32) NOT NULL,
        serves_since VARCHAR(32) NOT NULL,
        PRIMARY KEY (revision)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin
"""


def upgrade() -> None:
    op.execute(TABLE)
    serve(revision, since="0001")


def downgrade() -> None:
    op.execute("DROP TABLE IF EXISTS schema_revisions")
