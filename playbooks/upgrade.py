"""One step of an upgrade on the hosts of --limit; inventories/upgrade.py says which, when and where: make upgrade

The same as a play of upgrade.yml. A run of pyinfra leaves out a host that failed and goes on with the others, so that
what comes next, and whether hosts go back, is decided between runs.
"""

import shlex
import sys
from pathlib import PurePath

from pyinfra.api.exceptions import PyinfraError
from pyinfra.context import config, host
from pyinfra.operations import python, server

from inventories.cluster import ROOT
from inventories.upgrade import MOVING, Step, release_of_host
from roles.base.deploy import install_beside
from roles.operations import Output, directory, prove, put
from roles.role import Role, apply

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<3.11"

KEPT = "/opt/dist_test/kept"
FALLBACK = f"{KEPT}/fallback"

_base = Role.of(host, "base")
_release = host.data.get("upgrade_release")


def _fallback(name: str, *words: str) -> None:
    prove(f"upgrade | {name}", shlex.join([FALLBACK, *words]))


def _say_what_runs() -> None:
    current = host.get_fact(Output, line="readlink /opt/dist_test/current")
    sys.stdout.write(f"{host.name} runs {PurePath(current).name or 'nothing of dist_test'}\n")


_step = host.data.get("upgrade_step")
if _step not in list(Step):
    raise PyinfraError("an upgrade is made of many runs; say `make upgrade INVENTORY=NAME`")

if _step in MOVING and release_of_host(_base.vars) != _release:
    raise PyinfraError(f"the upgrade is to {_release}, but the checkout has changed since; upgrade again")

if _step == Step.PREPARE:
    directory("upgrade | Make the directory of what can be gone back to", KEPT, mode="700")
    put("upgrade | Bring the program that goes back", str(ROOT / "playbooks/files/fallback.py"), FALLBACK, mode="700")
    if _base.vars["base_install"]:
        install_beside(_base)

if _step in MOVING:
    _fallback("Keep what the host can go back to", "keep", _release)
    apply("base")
if _step == Step.STATE:
    apply("mysql")
    apply("beanstalkd")
    apply("object_store")
if _step == Step.SERVER:
    apply("isolate")
    apply("master")
if _step == Step.AUTOSCALER:
    apply("autoscaler")
if _step == Step.SLAVE:
    apply("slave")
if _step == Step.BACKUP:
    apply("backup")
if _step == Step.BACK:
    server.shell(
        name="upgrade | Put back what was there, and restart what read it",
        commands=[shlex.join([FALLBACK, "back", _release])],
    )
if _step == Step.FORGET:
    _fallback("Forget what could be gone back to", "forget")
if _step == Step.ACCOUNT:
    python.call(name="upgrade | Say which release runs", function=_say_what_runs)
