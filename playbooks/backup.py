"""Dump the database now, and say into which file: pyinfra -y inventories/NAME.py playbooks/backup.py

The same as backup.yml.
"""

import sys

from pyinfra.context import config, host
from pyinfra.operations import python, server

from roles.operations import Output
from roles.role import roles_of

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

_JOURNAL = "journalctl --unit=dist-test-backup.service --lines=50 --output=cat --no-pager | grep '^dumped ' | tail -n 1"


def _say_which() -> None:
    sys.stdout.write(f"{host.get_fact(Output, line=_JOURNAL)}\n")


if "backup" in roles_of(host):
    server.shell(name="backup | Dump the database", commands=["systemctl start dist-test-backup.service"])
    python.call(name="backup | Say which file it is", function=_say_which)
