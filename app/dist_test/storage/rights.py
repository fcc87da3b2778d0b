"""What each program may do on which table: the least that its own statements need. PURE.

An empty column stands for all of them. A right that a release no longer needs goes a release later, as a column does:
the programs of the release before still run while the accounts have the new rights already.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dist_test.model.summary import COUNTER_NAMES


class Right(NamedTuple):
    """A privilege by its SQL name, on a table or on one column of it."""

    table: str
    privilege: str
    column: str = ""


Rights = frozenset[Right]
Columns = tuple[str, ...]
ALL: Columns = ("",)

_SCHEMA: dict[str, dict[str, Columns]] = {
    "alembic_version": {"SELECT": ALL},
    "schema_revisions": {"SELECT": ALL},
}

_MASTER = _SCHEMA | {
    "jobs": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL, "DELETE": ALL},
    "tasks": {"SELECT": ALL, "INSERT": ALL},
    "attempts": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL},
    "events": {"SELECT": ALL, "INSERT": ALL},
    "durations": {"SELECT": ALL},
    "fair_share": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ("weight", "period", "finish_tag", "retry_charge")},
    "busy_period": {"SELECT": ALL, "UPDATE": ("period",)},
    "slaves": {"SELECT": ALL, "UPDATE": ("want",)},
    "live_logs": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ("wanted_until",), "DELETE": ALL},
    "digest_nonces": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ("counter", "seen_at"), "DELETE": ALL},
}

# Not: what a job or a task is, what happened, the order, the places in the queue, weights, nonces.
_SLAVE = _SCHEMA | {
    "jobs": {
        "SELECT": (
            *("job_key", "owner", "project", "state", "cancel_reason", "max_failed_tasks", "finished_at"),
            *COUNTER_NAMES,
        ),
        "UPDATE": ("state", "cancel_reason", "finished_at", *COUNTER_NAMES),
    },
    "attempts": {
        "SELECT": ALL,
        "INSERT": ALL,
        # MariaDB wants SELECT and UPDATE on every column that an INSERT … ON DUPLICATE KEY UPDATE names.
        "UPDATE": (
            *("job_key", "task_index", "attempt"),
            *("avoid_count", "queued_at", "has_started", "slave_id", "claim", "claim_token", "takeovers"),
            *("lease_until", "started_at", "finished_at", "outcome", "exit_status", "duration_seconds", "message"),
            *("stdout_bytes", "stderr_bytes", "artifact_bytes", "logs_lost"),
        ),
    },
    "events": {"INSERT": ALL},
    "durations": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL},
    "fair_share": {
        "SELECT": ALL,
        "INSERT": ("owner", "period"),
        "UPDATE": ("period", "finish_tag", "retry_charge"),
    },
    "busy_period": {"SELECT": ALL},
    "slaves": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL},
    "live_logs": {
        "SELECT": ("job_key", "task_index", "attempt", "wanted_until", "claim", "stdout_bytes", "stderr_bytes"),
        "UPDATE": ("claim", "written_at", "stdout_bytes", "stdout_tail", "stderr_bytes", "stderr_tail"),
    },
}

_AUTOSCALER = _SCHEMA | {
    "jobs": {"SELECT": ALL},
    "tasks": {"SELECT": ALL},
    "attempts": {"SELECT": ALL},
    "durations": {"SELECT": ALL},
    "slaves": {"SELECT": ALL, "UPDATE": ("want",)},
    "autoscale_state": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL},
    "autoscale_audit": {"SELECT": ALL, "INSERT": ALL, "DELETE": ALL},
    "autoscale_pins": {"SELECT": ALL, "INSERT": ALL, "UPDATE": ALL, "DELETE": ALL},
}

# For pruning blobs: what jobs need. Not for serving them, which needs no database.
_ISOLATE = _SCHEMA | {
    "jobs": {"SELECT": ("job_key", "state", "submitted_at")},
    "tasks": {"SELECT": ("job_key", "isolate_hash")},
}


def _flat(tables: Mapping[str, Mapping[str, Columns]]) -> Iterator[Right]:
    for table, privileges in tables.items():
        for privilege, columns in privileges.items():
            yield from (Right(table, privilege, column) for column in columns)


RIGHTS: Mapping[str, Rights] = {
    "master": frozenset(_flat(_MASTER)),
    "slave": frozenset(_flat(_SLAVE)),
    "autoscaler": frozenset(_flat(_AUTOSCALER)),
    "isolate": frozenset(_flat(_ISOLATE)),
}


def statements(rights: Rights) -> Iterator[tuple[str, str]]:
    """The rights by table: (table, what GRANT and REVOKE name before ON), in a fixed order."""
    for table in sorted({right.table for right in rights}):
        privileges = sorted({right.privilege for right in rights if right.table == table})
        yield table, ", ".join(_named(privilege, table, rights) for privilege in privileges)


def _named(privilege: str, table: str, rights: Rights) -> str:
    columns = sorted(right.column for right in rights if (right.table, right.privilege) == (table, privilege))
    whole = [privilege] if "" in columns else []
    named = ", ".join(quoted(column) for column in columns if column)
    return ", ".join([*whole, *([f"{privilege} ({named})"] if named else [])])


def quoted(identifier: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return "`" + identifier.replace("`", "``") + "`"
