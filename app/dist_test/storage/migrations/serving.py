"""How a migration tells the database which older programs may still use the schema that it makes.

A migration that only adds (a table, a column with a default) serves the programs of the revision before it, which
then run on during a rolling upgrade, and again after a step back. One that takes something away serves nobody but its
own programs, and so comes a release after the programs have stopped using it: docs/adr/0010.
"""

from alembic import op
from sqlalchemy import text


def serve(revision: str, *, since: str) -> None:
    """Let programs written for `since` or later run on this revision's schema. The last step of an upgrade."""
    op.execute(
        text("""
            INSERT INTO schema_revisions (revision, serves_since) VALUES (:revision, :since)
            ON DUPLICATE KEY UPDATE serves_since = VALUES(serves_since)
        """).bindparams(revision=revision, since=since)
    )


def withdraw(revision: str) -> None:
    """Let no older program start while the schema is taken back. The first step of a downgrade."""
    op.execute(text("DELETE FROM schema_revisions WHERE revision = :revision").bindparams(revision=revision))
