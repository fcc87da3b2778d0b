"""Run the two tools over the testbed as an operator would, and read from what they print what they changed."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inventories.cluster import Cluster

REPOSITORY = Path(__file__).parents[2]
_TIMEOUT_SECONDS = 900
_TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[(?P<task>.*)\] \**$|^changed: \[(?P<host>[^\]]+)\]", re.MULTILINE)
_RECAP = re.compile(r"^(?P<host>\S+)\s+: ok=\d+\s+changed=(?P<changed>\d+)", re.MULTILINE)


class DeploymentFailed(Exception):
    """The tool ended with another exit status than 0, or printed no account of what it did."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """`changes` are what the tool says that it changed, as "HOST: step"; empty when all was as it should be."""

    changes: Sequence[str]
    seconds: float


def deploy_with_pyinfra(inventory: str, *arguments: str) -> Deployment:
    """`pyinfra -y inventories/NAME.py deploy.py`. Raises DeploymentFailed."""
    command = [program("pyinfra"), "-y", "--json", *arguments, f"inventories/{inventory}.py", "deploy.py"]
    printed, seconds = _run(command, inventory)
    return Deployment(changes=pyinfra_changes(printed), seconds=seconds)


def deploy_with_ansible(inventory: str, *arguments: str) -> Deployment:
    """`ansible-playbook -i inventories/NAME/hosts.yml playbooks/site.yml`. Raises DeploymentFailed."""
    hosts = f"inventories/{inventory}/hosts.yml"
    command = [program("ansible-playbook"), "-i", hosts, *arguments, "playbooks/site.yml"]
    printed, seconds = _run(command, inventory)
    return Deployment(changes=ansible_changes(printed), seconds=seconds)


def resolve(inventory: str) -> Cluster:
    """What each role is told on each host. Raises DeploymentFailed."""
    printed, _ = _run([sys.executable, "-m", "inventories.resolver", f"inventories/{inventory}"], inventory)
    return Cluster.from_json(printed)


def pyinfra_changes(printed: str) -> list[str]:
    """What a run with --json changed; for a --dry one, what it would. Raises DeploymentFailed for other texts."""
    try:
        document = json.loads(printed[printed.index('{"plan"') :])
    except ValueError as error:
        raise DeploymentFailed(f"pyinfra printed no plan: {printed[-2000:]}") from error
    if document["results"] is None:
        steps = [(step["name"], step["hosts_with_change"]) for step in document["plan"]]
    else:
        steps = [(step["name"], step["success"]) for step in document["results"]["operations"]]
    return [f"{host}: {name}" for name, hosts in steps for host in hosts]


def ansible_changes(printed: str) -> list[str]:
    """What a run changed. Raises DeploymentFailed for a text without a recap, or one that counts differently."""
    changes, task = [], ""
    for match in _TASK.finditer(printed):
        if match["host"]:
            changes.append(f"{match['host']}: {task}")
        else:
            task = match["task"]
    counts = [int(match["changed"]) for match in _RECAP.finditer(printed)]
    # An item of a loop prints a line of its own, so that there may be more lines than changed tasks, never none.
    if not counts or bool(sum(counts)) != bool(changes):
        raise DeploymentFailed(f"Ansible's recap and tasks do not agree: {printed[-2000:]}")
    return changes


def _run(command: Sequence[str], inventory: str) -> tuple[str, float]:
    """Standard output and seconds. What the tools print to people goes to ours, which pytest shows on failure."""
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment_for(inventory),
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        words = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        raise DeploymentFailed(f"`{' '.join(command)}` ended with exit status {done.returncode}:\n{words}")
    return done.stdout, time.monotonic() - started


def program(name: str) -> str:
    """Its path beside this Python."""
    return str(Path(sys.executable).with_name(name))


def environment_for(inventory: str) -> dict[str, str]:
    """Ours, plain output, and the key to the inventory's secrets where it lies beside them."""
    password = REPOSITORY / "inventories" / inventory / "vault-password"
    vault = {"ANSIBLE_VAULT_PASSWORD_FILE": str(password)} if password.exists() else {}
    return vault | os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
