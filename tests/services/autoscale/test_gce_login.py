"""How the autoscaler logs in to Compute Engine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test.errors import ConfigurationError
from dist_test_autoscale.gce import compute_fleet
from dist_test_autoscale.settings import load_settings

from ...fakes.compute_engine import FakeComputeEngine, serving
from ...fakes.instance_groups import Group, Times
from ...fakes.metadata import FakeMetadata

# In a process of its own: google-auth looks for the metadata server's address when it is imported.
READ = """
import sys, time
from pathlib import Path
from dist_test_autoscale.gce import compute_fleet
from dist_test_autoscale.settings import load_settings

settings = load_settings(Path(sys.argv[1]))
fleet = compute_fleet(settings)
print(fleet.read(settings.policy.groups[0], time.monotonic() + 20).target)
print(fleet.read(settings.policy.groups[0], time.monotonic() + 20).target)
fleet.close()
"""


@pytest.fixture
def fake() -> Iterator[FakeComputeEngine]:
    fake = FakeComputeEngine(times=Times(boot=0.0))
    fake.add(Group(name="spot-b", zones=("us-central1-b",), target=2))
    yield fake
    assert fake.violations == []


@pytest.fixture
def metadata() -> Iterator[FakeMetadata]:
    metadata = FakeMetadata()
    metadata.start()
    yield metadata
    metadata.stop()
    assert metadata.violations == []


def write(tmp_path: Path, endpoint: str, credentials: str) -> Path:
    path = tmp_path / "autoscale.toml"
    path.write_text(
        f"""
[autoscale]
project = "our-project"
api_endpoint = "{endpoint}"
credentials = "{credentials}"
[[autoscale.group]]
name = "spot-b"
zone = "us-central1-b"
"""
    )
    return path


def test_a_machine_logs_in_with_its_own_account_and_again_when_its_token_is_refused(
    fake: FakeComputeEngine, metadata: FakeMetadata, tmp_path: Path
) -> None:
    metadata.tokens.extendleft(["a-token-that-was-revoked"])
    fake.tokens = {"a-token-of-the-machine"}
    address = metadata.url.removeprefix("http://")
    environment = {**os.environ, "GCE_METADATA_HOST": address, "GCE_METADATA_IP": address, "HOME": str(tmp_path)}
    environment.pop("GOOGLE_APPLICATION_CREDENTIALS", None)
    with serving(fake) as endpoint:
        command = [sys.executable, "-c", READ, str(write(tmp_path, endpoint, "adc"))]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (ran.stdout, ran.returncode) == ("2\n2\n", 0), ran.stderr
    # Refused once, and sent again with a new token; then get and list, twice.
    assert [call.action for call in fake.calls] == ["get", *["get", "listManagedInstances"] * 2]


@pytest.mark.parametrize("path", ["", "/", "/compute/v1", "/compute/v1/"])
def test_an_endpoint_without_its_path_is_completed(fake: FakeComputeEngine, tmp_path: Path, path: str) -> None:
    with serving(fake) as endpoint:
        address = endpoint.removesuffix("/compute/v1/")
        settings = load_settings(write(tmp_path, address + path, "anonymous"))
        fleet = compute_fleet(settings)
        assert fleet.read(settings.policy.groups[0], deadline=float("inf")).target == 2
        fleet.close()


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "", f"file:{tmp_path}/key.json"))

    with pytest.raises(ConfigurationError, match=r"autoscale.credentials is file:.*key.json, with which nobody"):
        compute_fleet(settings)
