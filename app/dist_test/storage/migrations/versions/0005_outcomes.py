"""Find a job's failures and flakes without reading all that succeeded."""

from alembic import op
from sqlalchemy import inspect

from dist_test.storage.migrations.serving import serve, withdraw

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    if not _is_indexed():
        # prior_failures tells the flakes: an attempt that succeeded after a failure.
        op.execute("CREATE INDEX outcomes ON attempts (job_key, outcome, prior_failures)")
    serve(revision, since="0001")


def downgrade() -> None:
    withdraw(revision)
    if _is_indexed():
        op.execute("DROP INDEX outcomes ON attempts")


def _is_indexed() -> bool:
    """Whether an earlier run got this far. MySQL, unlike MariaDB, has no CREATE INDEX IF NOT EXISTS."""
    return any(index["name"] == "outcomes" for index in inspect(op.get_bind()).get_indexes("attempts"))
