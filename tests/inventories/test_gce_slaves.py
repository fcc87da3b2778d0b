"""Slaves are found by label through Compute Engine's API, by both tools, and failures are said."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleParserError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from googleapiclient import discovery  # type: ignore[import-untyped]  # has none

from inventories.plugins import gce_slaves
from inventories.plugins.gce_slaves import DiscoveryFailed, Instance, Search, find_instances
from tests.fakes.compute import FakeCompute, serving

ROOT = Path(__file__).parents[2]
ANYBODY = AnonymousCredentials()  # type: ignore[no-untyped-call]  # google.auth's own
HOSTS = """\
plugin: gce_slaves
gce_slaves:
  project: our-project
  api_endpoint: {endpoint}
cluster:
  children:
    masters:
      hosts:
        master1:
          ansible_host: 10.0.0.1
    slaves:
"""


@pytest.fixture
def fake() -> Iterator[FakeCompute]:
    fake = FakeCompute()
    yield fake
    assert fake.violations == []


@pytest.fixture
def endpoint(fake: FakeCompute) -> Iterator[str]:
    with serving(fake) as address:
        yield address


def a_search(**options: Any) -> Search:
    return Search.from_options({"project": "our-project", **options})


def find(endpoint: str, **options: Any) -> list[Instance]:
    client = discovery.build(
        "compute", "v1", credentials=ANYBODY, cache_discovery=False, static_discovery=True,
        client_options={"api_endpoint": endpoint},
    )  # fmt: skip
    try:
        return find_instances(client, a_search(**options))
    finally:
        client.close()


def slave(fake: FakeCompute, name: str, zone: str, address: str, **more: Any) -> None:
    fake.add(name, zone, address, **{"dist-test": "slave", **more})


def test_running_instances_with_the_label_are_found_in_all_zones(fake: FakeCompute, endpoint: str) -> None:
    slave(fake, "b1", "us-central1-b", "10.0.0.3")
    slave(fake, "a1", "us-central1-a", "10.0.0.2")
    slave(fake, "a2", "us-central1-a", "10.0.0.4", status="TERMINATED")
    fake.add("web", "us-central1-a", "10.0.0.5")
    assert find(endpoint) == [
        Instance(name="a1", zone="us-central1-a", address="10.0.0.2", ssh_address="10.0.0.2"),
        Instance(name="b1", zone="us-central1-b", address="10.0.0.3", ssh_address="10.0.0.3"),
    ]


def test_every_page_is_read(fake: FakeCompute, endpoint: str) -> None:
    fake.page_size = 2
    for number in range(5):
        slave(fake, f"s{number}", "us-central1-a", f"10.0.0.{number}")
    assert [instance.name for instance in find(endpoint)] == ["s0", "s1", "s2", "s3", "s4"]
    assert len(fake.requests) == 3


def test_labels_and_zones_narrow_the_search(fake: FakeCompute, endpoint: str) -> None:
    slave(fake, "a1", "us-central1-a", "10.0.0.2", team="red")
    slave(fake, "a2", "us-central1-a", "10.0.0.3", team="blue")
    slave(fake, "b1", "us-central1-b", "10.0.0.4", team="red")
    assert [instance.name for instance in find(endpoint, labels={"team": "red"})] == ["a1", "b1"]
    assert [instance.name for instance in find(endpoint, labels={"team": "red"}, zones=["us-central1-a"])] == ["a1"]


def test_an_external_address_is_where_ssh_goes(fake: FakeCompute, endpoint: str) -> None:
    slave(fake, "a1", "us-central1-a", "10.0.0.2")
    with pytest.raises(DiscoveryFailed, match=r"instance a1 has no external address; write .*: internal"):
        find(endpoint, address="external")
    fake.zones["us-central1-a"][0]["networkInterfaces"][0]["accessConfigs"] = [{"natIP": "100.64.0.9"}]
    assert find(endpoint, address="external") == [
        Instance(name="a1", zone="us-central1-a", address="10.0.0.2", ssh_address="100.64.0.9")
    ]


def test_a_project_that_is_not_there_is_said(endpoint: str) -> None:
    with pytest.raises(DiscoveryFailed, match="refused to list instances: 404 The resource 'projects/other-one'"):
        find(endpoint, project="other-one")


def test_a_moment_of_trouble_is_waited_out(fake: FakeCompute, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("googleapiclient.http.time.sleep", lambda _: None)
    slave(fake, "a1", "us-central1-a", "10.0.0.2")
    fake.refusals = [503, 503]
    assert [instance.name for instance in find(endpoint)] == ["a1"]
    fake.refusals = [503, 503, 503]
    with pytest.raises(DiscoveryFailed, match="503"):
        find(endpoint)


def test_a_server_that_does_not_answer_is_said(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("googleapiclient.http.time.sleep", lambda _: None)
    with pytest.raises(DiscoveryFailed, match="could not be asked"):
        find(f"http://127.0.0.1:{free_port}/compute/v1/")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (None, "gce_slaves.project is missing; write the id of the Google project"),
        ({"project": ""}, "gce_slaves.project is missing; write the id of the Google project"),
        (
            {"project": "p", "zone": "a"},
            "gce_slaves.zone is no option; there are project, labels, zones, address, api_endpoint",
        ),
        ({"project": "p", "address": "public"}, "gce_slaves.address is public; write internal or external"),
    ],
)
def test_a_wrong_option_is_said(options: Any, message: str) -> None:
    with pytest.raises(AnsibleParserError) as caught:
        Search.from_options(options)
    assert caught.value.message == message


@pytest.fixture
def account(tmp_path: Path, endpoint: str, fake: FakeCompute) -> Path:
    """The key file of a service account whose token server is the fake's."""
    fake.needs_token = True
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    origin = endpoint.removesuffix("/compute/v1/")
    path = tmp_path / "account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "our-project",
                "private_key_id": "1",
                "private_key": key.decode(),
                "client_email": "deploy@our-project.test",
                "token_uri": f"{origin}/token",
            }
        )
    )
    return path


def tool(*command: str, account: Path | None, discovery_is: str = "") -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "INVENTORY_DISCOVERY": discovery_is, "NO_GCE_CHECK": "true"}
    environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(account or "/nowhere.json")
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip


def list_hosts(directory: Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    program = str(Path(sys.executable).with_name("ansible-inventory"))
    return tool(program, "-i", str(directory / "hosts.yml"), "--list", **more)


@pytest.fixture
def inventory(tmp_path: Path, endpoint: str) -> Path:
    (tmp_path / "hosts.yml").write_text(HOSTS.format(endpoint=endpoint))
    return tmp_path


def test_ansible_finds_the_slaves_beside_the_hosts_that_are_named(
    inventory: Path, fake: FakeCompute, account: Path
) -> None:
    slave(fake, "a1", "us-central1-a", "10.0.0.2")
    listed = list_hosts(inventory, account=account)
    assert listed.returncode == 0, listed.stderr
    hosts = json.loads(listed.stdout)
    assert hosts["slaves"] == {"hosts": ["a1"]}
    assert hosts["masters"] == {"hosts": ["master1"]}
    assert sorted(hosts["cluster"]["children"]) == ["masters", "slaves"]
    variables = hosts["_meta"]["hostvars"]["a1"]
    # Ansible marks what comes from outside, so that nobody takes it for a template.
    assert variables["ansible_host"] == variables["cluster_address"] == {"__ansible_unsafe": "10.0.0.2"}


def test_the_resolver_finds_them_for_pyinfra(inventory: Path, fake: FakeCompute, account: Path) -> None:
    slave(fake, "a1", "us-central1-a", "10.0.0.2")
    program = (
        "import pathlib, sys; from inventories.resolver import Resolver; "
        "print([host.name for host in Resolver(pathlib.Path(sys.argv[1])).engine.inventory.get_hosts('slaves')])"
    )
    resolved = tool(sys.executable, "-c", program, str(inventory / "hosts.yml"), account=account)
    assert resolved.stdout == "['a1']\n", resolved.stderr


def test_nobody_is_asked_when_discovery_is_off(inventory: Path, fake: FakeCompute) -> None:
    listed = list_hosts(inventory, account=None, discovery_is="off")
    assert json.loads(listed.stdout)["masters"] == {"hosts": ["master1"]}
    assert fake.requests == []


def test_ansible_stops_when_nobody_knows_the_slaves(inventory: Path, fake: FakeCompute, account: Path) -> None:
    fake.refusals = [403]
    listed = list_hosts(inventory, account=account)
    assert listed.returncode != 0
    assert "Compute Engine refused to list instances: 403 refused" in " ".join(listed.stderr.split())


def test_missing_credentials_are_said(inventory: Path) -> None:
    listed = list_hosts(inventory, account=None)
    assert listed.returncode != 0
    assert "no Google credentials" in " ".join(listed.stderr.split())


def test_the_plugin_is_found_by_the_name_that_its_file_has() -> None:
    assert Path(gce_slaves.__file__).stem == gce_slaves.NAME
