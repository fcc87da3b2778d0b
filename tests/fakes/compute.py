"""Compute Engine in one process, for tests: it takes only requests that the API's own description allows.

The description (the discovery document) is the one that google-api-python-client ships. A request with an unknown
path, parameter or value is answered 400 and noted in `violations`, which the test must find empty.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from . import discovery
from .discovery import Document, NotAllowed, Request, description

TOKEN = "a-token-of-the-fake"
_CONDITION = re.compile(r'\((?P<key>[\w.-]+) = "(?P<value>[^"]*)"\)\s*')
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass(kw_only=True)
class FakeCompute:
    """The project `project` and its instances by zone. `refusals`: statuses of the next answers, first one first."""

    project: str = "our-project"
    zones: dict[str, list[Document]] = field(default_factory=dict)
    page_size: int = 500
    refusals: list[int] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    needs_token: bool = False

    def add(self, name: str, zone: str, address: str, *, status: str = "RUNNING", **labels: str) -> None:
        """Put an instance into the project, with the fields that matter here."""
        interface = {"networkIP": address, "name": "nic0"}
        made = {"name": name, "status": status, "labels": labels, "networkInterfaces": [interface]}
        self.zones.setdefault(zone, []).append(made)

    def answer(self, request: Request) -> tuple[int, Document]:
        """Status and body of a request. Raises NotAllowed."""
        if request.target == "/token":
            return 200, self.grant(request.body)
        self.requests.append(request.target)
        if self.needs_token and request.authorization != f"Bearer {TOKEN}":
            return 401, discovery.error(401, "no token")
        if self.refusals:
            status = self.refusals.pop(0)
            return status, discovery.error(status, "refused")
        call = description().read(request)
        if call.method != "instances.aggregatedList":
            raise NotAllowed(f"the fake does not do {call.method}")
        if call.names["project"] != self.project:
            return 404, discovery.error(404, f"The resource 'projects/{call.names['project']}' was not found")
        return 200, self._aggregated_list(call.query)

    def _aggregated_list(self, query: Mapping[str, str]) -> Document:
        found = [
            (zone, instance)
            for zone, instances in sorted(self.zones.items())
            for instance in instances
            if _matches(instance, query.get("filter", ""))
        ]
        size = min(self.page_size, int(query.get("maxResults", "500")))
        start = int(query.get("pageToken", "0"))
        # Zones without results are in every answer, with a warning in the place of instances.
        items: Document = {f"zones/{zone}": {"warning": {"code": "NO_RESULTS_ON_PAGE"}} for zone in self.zones}
        for zone, instance in found[start : start + size]:
            items[f"zones/{zone}"].pop("warning", None)
            items[f"zones/{zone}"].setdefault("instances", []).append(instance)
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return {"kind": "compute#instanceAggregatedList", "items": items, **more}

    def grant(self, body: bytes) -> Document:
        """What the token server says to a service account. Raises NotAllowed."""
        form = dict(parse_qsl(body.decode()))
        if form.keys() != {"grant_type", "assertion"} or form["grant_type"] != _JWT_GRANT:
            raise NotAllowed(f"the token server takes no {sorted(form)}")
        return {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}


def _matches(instance: Document, expression: str) -> bool:
    """Whether all conditions hold. Raises NotAllowed for what is no chain of (KEY = "VALUE")."""
    if _CONDITION.sub("", expression):
        raise NotAllowed(f"the filter {expression} is not understood")
    conditions = _CONDITION.findall(expression)
    flat = {"status": instance["status"], **{f"labels.{key}": value for key, value in instance["labels"].items()}}
    return all(flat.get(key) == value for key, value in conditions)


@contextmanager
def serving(fake: FakeCompute) -> Iterator[str]:
    """Serve it on loopback; gives the address that `api_endpoint` takes. /token beside it is the token server."""
    with discovery.serving(fake.answer, fake.violations) as endpoint:
        yield endpoint
