"""`make testbed`: a cluster on hosts of this computer, made as an operator would, and what a user gets from it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.testbed.bed import HOSTS, Bed
from tests.testbed.deployments import REPOSITORY, environment_for, program
from tests.testbed.laptop import Laptop, run_sample_suite
from tests.testbed.warm import WarmLayer

_COMMAND = "python -m tests.testbed"


class TrialFailed(Exception):
    """The deployment failed, or the suite came out otherwise than expected; the hosts are up to be looked at."""


def run_trial(bed: Bed) -> None:
    """Boot what is off, deploy with pyinfra, run the sample suite, and say how to look around. Raises TrialFailed."""
    warm = WarmLayer(tree=bed.tree)
    layer = warm.find()
    with _phase("hosts"):
        (bed.with_layers(layer) if layer else bed).up()
    with _phase("deployment"):
        _deploy()
    with _phase("keep what was downloaded"):
        warm.top_up(map(bed.host, HOSTS))
    with _phase("sample suite"):
        _run_suite(bed)
    _explain(bed)


def _deploy() -> None:
    command = [program("pyinfra"), "-y", "inventories/testbed.py", "deploy.py"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment_for("testbed"), check=False)
    if done.returncode != 0:
        raise TrialFailed(
            f"pyinfra ended with exit status {done.returncode}; the hosts stay up: {_COMMAND} ssh master1"
        )


def _run_suite(bed: Bed) -> None:
    directory = bed.state_dir / "laptop"
    directory.mkdir(exist_ok=True)
    verdicts = run_sample_suite(Laptop.beside(bed, directory))
    for name, wrong in verdicts.items():
        print(f"  {name:16} {'; '.join(wrong) or 'as expected'}")
    if any(verdicts.values()):
        raise TrialFailed(f"NOT as expected; the hosts stay up: {_COMMAND} ssh slave1")


def _explain(bed: Bed) -> None:
    print(f"The cluster is up: https://{bed.address('master1')} (signed by itself)")
    print(f"The client's settings: {bed.state_dir / 'laptop'}; the operators' key: {bed.key_path}")
    print(f"Look around: {_COMMAND} ssh master1; {_COMMAND} power-off queue1; {_COMMAND} up")
    print(f"End it: {_COMMAND} down")


@contextmanager
def _phase(what: str) -> Iterator[None]:
    print(f"--> {what}", flush=True)
    started = time.monotonic()
    yield
    print(f"    {what}: {time.monotonic() - started:.1f} s", flush=True)
