"""Run one of playbooks/ with pyinfra: python -m inventories.operation [--limit HOSTS] [--data KEY=VALUE] PLAYBOOK NAME

As for a deployment, a limit that matches no host is a failure. Exit status: 0 done, 2 failed.
"""

import argparse
import os
import sys

from inventories import loader
from inventories.cluster import ROOT, InventoryError
from inventories.deployment import FAILED, environment_of, limit_arguments, run_pyinfra

PLAYBOOKS = ("drain", "resume", "backup", "restore")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m inventories.operation", description="Run one of playbooks/.")
    parser.add_argument("--limit", default="", help="hosts, groups or patterns, separated by commas")
    parser.add_argument("--data", action="append", default=[], metavar="KEY=VALUE", help="what the playbook asks for")
    parser.add_argument("playbook", choices=PLAYBOOKS)
    parser.add_argument("name", help="which one of inventories/")
    arguments = parser.parse_args()
    directory = ROOT / "inventories" / arguments.name
    os.environ.update(environment_of(directory))
    try:
        limit = limit_arguments(loader.load(directory), arguments.limit) if arguments.limit else []
    except InventoryError as exc:
        sys.stderr.write(f"inventories: {exc}\n")
        return FAILED
    data = [word for pair in arguments.data for word in ("--data", pair)]
    done = run_pyinfra(["-y", *data, *limit], directory, f"playbooks/{arguments.playbook}.py")
    return FAILED if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
