"""Let slaves finish what they run and take no more, and wait for that; the same as drain.yml.

pyinfra -y inventories/NAME.py playbooks/drain.py --limit slave1 [--data drain_seconds=600]
"""

from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import config, host, state

from roles.fleet import on_a_master
from roles.role import Role, roles_of

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

if state.limit_hosts is None:
    raise PyinfraError("say which slaves, as in `--limit slave1`; `--limit slaves` is all of them")

if "slave" in roles_of(host):
    on_a_master(
        "drain | Ask the slave to drain, and wait until it has",
        ["drain", Role.of(host, "slave").vars["slave_id"], "--wait", str(host.data.get("drain_seconds", 3600))],
    )
