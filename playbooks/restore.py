"""Put back the database from a dump; everything since then is lost. The same as restore.yml.

pyinfra -y inventories/NAME.py playbooks/restore.py --data restore_file=/var/backups/dist_test/NAME.sql.zst
"""

import shlex

from pyinfra.api.exceptions import OperationError, PyinfraError
from pyinfra.context import config, host, state
from pyinfra.operations import python, server

from roles.beanstalkd.deploy import empty
from roles.operations import LIBRARY, prove
from roles.role import Role, roles_of

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

_PROGRAM = "/opt/dist_test/current/bin/dist-test-master"


def _on(role: str, name: str, command: str) -> None:
    if role in roles_of(host):
        server.shell(name=f"restore | {name}", commands=[command])


def _barrier() -> None:
    """Go on only if no host failed: pyinfra by itself goes on with the others."""
    if state.failed_hosts:
        raise OperationError(f"{', '.join(sorted(failed.name for failed in state.failed_hosts))} failed; see above")


_file = host.data.get("restore_file")
if not _file or state.limit_hosts is not None:
    raise PyinfraError(
        "say which dump, as in `--data restore_file=/var/backups/dist_test/dist_test-20260101T023000Z.sql.zst`,"
        " and no limit: all masters and slaves have to stop"
    )
_first_master = host.inventory.get_group("masters")[0].name
_dump = shlex.quote(str(_file))

_on("backup", "Read the dump to its end", f"zstd --test --quiet {_dump}")
python.call(name="all hosts | Can be restored", function=_barrier)

_on("master", "Stop the master", "systemctl stop dist-test-master.service")
# In a database that is half restored, most jobs are not there.
_on("master", "Stop pruning", "systemctl stop dist-test-prune.timer dist-test-prune.service")
_on("isolate", "Stop pruning blobs", "systemctl stop dist-test-isolate-prune.timer dist-test-isolate-prune.service")
_on("autoscaler", "Stop the autoscaler", "systemctl stop dist-test-autoscaler.service")
# The first SIGTERM begins a drain, the second one ends it: what runs is handed back.
_on(
    "slave",
    "Stop the slave without a drain",
    "systemctl kill --signal=TERM dist-test-slave.service && sleep 2; systemctl stop dist-test-slave.service",
)
python.call(name="all hosts | Write nothing any more", function=_barrier)

_on("backup", "Restore the dump", f"{LIBRARY}/backup restore {_dump}")
# Numbers of jobs since the dump will be given again, and an old entry would run in the place of a new one. Masters put
# again what is missing.
if "beanstalkd" in roles_of(host):
    empty(Role.of(host, "beanstalkd"))
python.call(name="all hosts | Have what the dump holds", function=_barrier)

if host.name == _first_master:
    _on(
        "master",
        "Bring the schema up to the release",
        f"env DIST_TEST_CNF=/etc/dist_test/migrate.cnf {_PROGRAM} migrate",
    )
python.call(name="all hosts | Have the schema", function=_barrier)
_on("master", "Start the master", f"{LIBRARY}/service dist-test-master.service")
_on("master", "Start pruning", f"{LIBRARY}/service dist-test-prune.timer")
_on("isolate", "Start pruning blobs", f"{LIBRARY}/service dist-test-isolate-prune.timer")
python.call(name="all hosts | Have the masters", function=_barrier)
_on("autoscaler", "Start the autoscaler", f"{LIBRARY}/service dist-test-autoscaler.service")
_on("slave", "Start the slave", f"{LIBRARY}/service dist-test-slave.service")
if host.name == _first_master:
    # The masters look for what is missing every 15 seconds, and believe it when they have seen it twice.
    audit = f"env DIST_TEST_CNF=/etc/dist_test/master.cnf {_PROGRAM} audit"
    prove(
        "restore | See that nothing of a job is missing",
        f"for try in $(seq 18); do {audit} && exit; sleep 10; done; exit 1",
    )
