"""Whether the slave of this host works, by what it last wrote about itself."""

import time
from collections.abc import Callable
from datetime import timedelta

from dist_test.errors import DatabaseUnavailable, SlaveNotReady
from dist_test.settings import SlaveSettings
from dist_test.storage.database import Database
from dist_test.storage.slaves import Slave, Slaves

PAUSE_SECONDS = 0.5


def check(
    settings: SlaveSettings,
    *,
    wait: timedelta,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Say in a sentence how the slave does, once it takes tasks or drains because it was asked to.

    Raises SlaveNotReady when it does neither for as long as `wait`, SchemaMismatch, DatabaseRefused.
    """
    deadline = now() + wait.total_seconds()
    database = Database(settings.mysql, pool_size=1)
    try:
        while True:
            try:
                return _row(settings, Slaves(database))
            except (SlaveNotReady, DatabaseUnavailable):
                if now() > deadline:
                    raise
            sleep(PAUSE_SECONDS)
    finally:
        database.close()


def _row(settings: SlaveSettings, slaves: Slaves) -> str:
    # Two missed heartbeats may be a busy machine; three are none.
    rows = {slave.slave_id: slave for slave in slaves.all(live_for=3 * settings.heartbeat_every)}
    slave = rows.get(settings.slave_id)
    if slave is None:
        raise SlaveNotReady(f"no slave has registered as {settings.slave_id}; see journalctl -u dist-test-slave")
    if problem := _problem(slave):
        raise SlaveNotReady(f"slave {slave.slave_id} {problem}; see journalctl -u dist-test-slave")
    return f"slave {slave.slave_id} is {slave.state}: {slave.busy} of {slave.slots} slots are busy"


def _problem(slave: Slave) -> str:
    if not slave.is_live:
        return f"is silent since {slave.heartbeat:%Y-%m-%d %H:%M:%S} UTC"
    if slave.state == "up" or (slave.want == "drain" and slave.state in ("draining", "drained")):
        return ""
    return f"is {slave.state}{': ' if slave.message else ''}{slave.message}"
