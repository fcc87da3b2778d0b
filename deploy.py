"""Set up a cluster: pyinfra -y inventories/NAME.py deploy.py

The same as playbooks/site.yml, in the same order. One line a role, because pyinfra takes line numbers for identity.
"""

from pyinfra.context import config
from pyinfra.operations import server

from roles.role import apply

# Role files ask for root where they need it; the inventory says how (ansible_become).
config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

apply("base")
server.shell(name="all hosts | Have the base", commands=[])
apply("mysql")
apply("beanstalkd")
apply("object_store")
server.shell(name="all hosts | Have the services that hold state", commands=[])
apply("isolate")
apply("master")
server.shell(name="all hosts | Have the masters", commands=[])
apply("autoscaler")
apply("slave")
apply("backup")
