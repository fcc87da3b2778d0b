"""The fake Compute Engine as a program whose machines are processes: what the tests of whole systems stand on."""

import json
import signal
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials

from dist_test_autoscale.gce import ComputeFleet
from dist_test_autoscale.groups import ListedInstance
from dist_test_autoscale.settings import GroupSettings

ROOT = Path(__file__).parents[3]
GROUP = GroupSettings(name="spot-b", zone="us-central1-b", region=None, priority=0, spot=True, min=0, max=10)
# Writes who it is, and what its power button did.
MACHINE = """
import json, os, signal, sys, urllib.request
told = {key: value for key, value in os.environ.items() if key.startswith("INSTANCE_")}
path = sys.argv[1] + "/" + os.environ["INSTANCE_NAME"] + "." + os.environ["INSTANCE_ID"]
def end(*_):
    request = urllib.request.Request(told["INSTANCE_METADATA_URL"] + "/computeMetadata/v1/instance/preempted")
    request.add_header("Metadata-Flavor", "Google")
    with urllib.request.urlopen(request) as answer:
        open(path + ".ended", "wb").write(answer.read())
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(path, "w").write(json.dumps(told))
while True:
    signal.pause()
"""


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """A program with one group, whose zone has room for two."""
    (tmp_path / "machine.py").write_text(MACHINE)
    command = [sys.executable, "-m", "tests.fakes.compute_engine", "--group", "spot-b:us-central1-b=2"]
    command += ["--boot", "0.2", "--notice", "0.2", "--shutdown", "1", "--retry", "0.2"]
    command += ["--run", f"{sys.executable} {tmp_path}/machine.py {tmp_path}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 0


@pytest.fixture
def fleet(endpoint: str) -> Iterator[ComputeFleet]:
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google-auth types only a part
    fleet = ComputeFleet(project="our-project", credentials=credentials, endpoint=endpoint)
    yield fleet
    fleet.close()


def soon() -> float:
    return time.monotonic() + 20


def running(fleet: ComputeFleet) -> list[ListedInstance]:
    return [found for found in fleet.read(GROUP, soon()).instances if found.status == "RUNNING"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def test_machines_boot_as_processes_and_their_power_button_works(fleet: ComputeFleet, tmp_path: Path) -> None:
    fleet.grow(GROUP, 3, str(uuid.uuid4()), soon())
    until(lambda: len(running(fleet)) == 2 and len(list(tmp_path.glob("spot-b-*"))) == 2)
    first, second = running(fleet)
    told = json.loads((tmp_path / f"{first.name}.{first.id}").read_text())
    assert (told["INSTANCE_ZONE"], told["INSTANCE_GROUP"]) == ("us-central1-b", "spot-b")

    fleet.delete(GROUP, [(first.name, first.id)], str(uuid.uuid4()), soon())

    until(lambda: (tmp_path / f"{first.name}.{first.id}.ended").exists())
    # Its room is taken by the third, for which there was none.
    until(lambda: {found.name for found in running(fleet)} > {second.name})
    assert fleet.read(GROUP, soon()).target == 2


def test_a_preempted_machine_is_told_and_comes_back_as_another(
    fleet: ComputeFleet, endpoint: str, tmp_path: Path
) -> None:
    fleet.grow(GROUP, 1, str(uuid.uuid4()), soon())
    until(lambda: len(running(fleet)) == 1 and len(list(tmp_path.glob("spot-b-*"))) == 1)
    [before] = running(fleet)

    address = endpoint.replace("/compute/v1/", f"/fake/preempt?name={before.name}")
    urllib.request.urlopen(urllib.request.Request(address, method="POST")).close()

    ended = tmp_path / f"{before.name}.{before.id}.ended"
    until(lambda: ended.exists() and ended.read_text() == "TRUE")
    until(lambda: [found.id for found in running(fleet)] not in ([], [before.id]))
    [after] = running(fleet)
    assert after.name == before.name
