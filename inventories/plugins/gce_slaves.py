"""An Ansible inventory plugin: the slaves are the running Compute Engine instances that carry a label.

hosts.yml of such an inventory says so in its first lines; the rest of it is an ordinary YAML inventory:

    plugin: gce_slaves
    gce_slaves:
      project: PROJECT             required
      labels: {dist-test: slave}   instances with all of these; the default
      zones: [ZONE, ...]           default: all zones
      address: internal            or external: which one SSH connects to
      api_endpoint: URL            default: Google's; another one for private access

The plugin authenticates as Google's libraries do: GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default
login`, or the account of the instance that it runs on. It reads only. INVENTORY_DISCOVERY=off finds no slaves and
asks nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.plugins.inventory.yaml import InventoryModule as YamlInventory

DOCUMENTATION = """
name: gce_slaves
short_description: Running Compute Engine instances with a label as slaves
description: Reads an ordinary YAML inventory, and adds to its group slaves the instances that carry a label.
options:
  plugin:
    description: Has to be gce_slaves.
    choices: [gce_slaves]
    required: true
  gce_slaves:
    description: Where to look; the keys are project, labels, zones, address and api_endpoint.
    type: dict
    required: true
"""
NAME = "gce_slaves"
SCOPE = "https://www.googleapis.com/auth/compute.readonly"
TIMEOUT_SECONDS = 15
ATTEMPTS_MORE = 2  # the client sleeps up to 2 and 4 s before them
PAGE = 500  # compute v1: the most that one answer can hold


class DiscoveryFailed(AnsibleParserError):  # type: ignore[misc]  # ansible has no types
    """Compute Engine could not be asked, or refused, so nobody knows which slaves there are."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to look for. Defaults are those of the plugin's options."""

    project: str
    labels: Mapping[str, str]
    zones: frozenset[str]
    address: str
    api_endpoint: str | None

    @classmethod
    def from_options(cls, options: Any) -> Search:
        """Raises AnsibleParserError for what hosts.yml says wrongly."""
        if not isinstance(options, Mapping) or not options.get("project"):
            raise AnsibleParserError(f"{NAME}.project is missing; write the id of the Google project")
        if unknown := sorted(options.keys() - {field.name for field in fields(cls)}):
            known = ", ".join(field.name for field in fields(cls))
            raise AnsibleParserError(f"{NAME}.{unknown[0]} is no option; there are {known}")
        address = str(options.get("address", "internal"))
        if address not in ("internal", "external"):
            raise AnsibleParserError(f"{NAME}.address is {address}; write internal or external")
        return cls(
            project=str(options["project"]),
            labels={str(key): str(value) for key, value in (options.get("labels") or {"dist-test": "slave"}).items()},
            zones=frozenset(map(str, options.get("zones") or ())),
            address=address,
            api_endpoint=str(options["api_endpoint"]) if options.get("api_endpoint") else None,
        )

    def filter(self) -> str:
        """The same as Compute Engine's filter expression; zones are not part of it."""
        wanted = {"status": "RUNNING", **{f"labels.{key}": value for key, value in self.labels.items()}}
        return " ".join(f'({key} = "{value}")' for key, value in wanted.items())


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A running instance. `ssh_address` is where the operator's machine reaches it, `address` where the others do."""

    name: str
    zone: str
    address: str
    ssh_address: str


def find_instances(compute: Any, search: Search) -> list[Instance]:
    """Ask for all pages; the instances by name. Raises DiscoveryFailed."""
    request = compute.instances().aggregatedList(project=search.project, filter=search.filter(), maxResults=PAGE)
    found: list[Instance] = []
    while request is not None:
        answer = _ask(request)
        found += _instances_of(answer, search)
        request = compute.instances().aggregatedList_next(request, answer)
    return sorted(found, key=lambda instance: instance.name)


def _ask(request: Any) -> Any:
    from google.auth.exceptions import GoogleAuthError
    from googleapiclient.errors import HttpError  # type: ignore[import-untyped]  # has none
    from httplib2 import HttpLib2Error  # type: ignore[import-untyped]  # has none

    try:
        return request.execute(num_retries=ATTEMPTS_MORE)
    except HttpError as exc:
        raise DiscoveryFailed(f"Compute Engine refused to list instances: {exc.status_code} {exc.reason}") from exc
    except (GoogleAuthError, HttpLib2Error, OSError) as exc:
        raise DiscoveryFailed(f"Compute Engine could not be asked for the slaves: {exc}") from exc


def _instances_of(answer: Mapping[str, Any], search: Search) -> Iterator[Instance]:
    for scope, held in answer.get("items", {}).items():
        zone = scope.removeprefix("zones/")
        if not search.zones or zone in search.zones:
            yield from (_read_instance(item, zone, search) for item in held.get("instances", ()))


def _read_instance(item: Mapping[str, Any], zone: str, search: Search) -> Instance:
    interface = item["networkInterfaces"][0]
    address = interface["networkIP"]
    outside = [access["natIP"] for access in interface.get("accessConfigs", ()) if "natIP" in access]
    if search.address == "external" and not outside:
        raise DiscoveryFailed(f"instance {item['name']} has no external address; write {NAME}.address: internal")
    ssh_address = outside[0] if search.address == "external" else address
    return Instance(name=item["name"], zone=zone, address=address, ssh_address=ssh_address)


def connect(search: Search) -> Any:
    """A client of compute v1 that asks nobody before its first request but the source of credentials."""
    try:
        import google.auth
        import httplib2
        from google.auth.exceptions import GoogleAuthError
        from google_auth_httplib2 import AuthorizedHttp  # type: ignore[import-untyped]  # has none
        from googleapiclient import discovery  # type: ignore[import-untyped]  # has none
    except ImportError as exc:
        raise DiscoveryFailed(f"{exc}; run ./bootstrap.sh deploy, or pip install google-api-python-client") from exc
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except GoogleAuthError as exc:
        raise DiscoveryFailed(f"no Google credentials: {exc}") from exc
    # The timeout has to be given here: google_auth_httplib2 ignores that of single requests.
    http = AuthorizedHttp(credentials, http=httplib2.Http(timeout=TIMEOUT_SECONDS))
    options = {"api_endpoint": search.api_endpoint} if search.api_endpoint else None
    return discovery.build(
        "compute", "v1", http=http, cache_discovery=False, static_discovery=True, client_options=options
    )


class InventoryModule(YamlInventory):  # type: ignore[misc]  # ansible has no types
    """Ansible's YAML inventory, and the slaves that are found."""

    NAME = NAME

    def verify_file(self, path: str) -> bool:
        return path.endswith((".yml", ".yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:  # noqa: ARG002  # the name is Ansible's
        """Raises AnsibleParserError."""
        BaseInventoryPlugin.parse(self, inventory, loader, path)
        data = dict(loader.load_from_file(path, cache="none", trusted_as_template=True))
        del data["plugin"]
        search = Search.from_options(data.pop(NAME, None))
        for group, body in data.items():
            self._parse_group(group, body)
        if os.environ.get("INVENTORY_DISCOVERY") != "off":
            self._add(find_instances(connect(search), search))

    def _add(self, instances: list[Instance]) -> None:
        self.inventory.add_group("slaves")
        for instance in instances:
            self.inventory.add_host(instance.name, group="slaves")
            self.inventory.set_variable(instance.name, "ansible_host", instance.ssh_address)
            self.inventory.set_variable(instance.name, "cluster_address", instance.address)
        if not instances:
            self.display.warning(f"{NAME} found no running instance with the label: there are no slaves")
