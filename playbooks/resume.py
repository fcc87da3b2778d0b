"""Let drained slaves take tasks again: pyinfra -y inventories/NAME.py playbooks/resume.py --limit slave1

The same as resume.yml.
"""

from pyinfra.context import config, host

from roles.fleet import on_a_master
from roles.role import Role, roles_of

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

if "slave" in roles_of(host):
    on_a_master("resume | Let the slave take tasks again", ["resume", Role.of(host, "slave").vars["slave_id"]])
