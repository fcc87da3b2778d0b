"""The settings of a slave that was cloned from an image: what the image holds, and what its instance is told."""

import configparser
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from dist_test.errors import ConfigurationError, MetadataUnavailable
from dist_test.settings import load_slave_settings, parse_ini

logger = logging.getLogger(__name__)

SETTINGS_ATTRIBUTE = "dist-test-settings"
# One request, and so one moment, for all of it; `recursive` makes it JSON.
# Compute Engine, "About VM metadata" and "Predefined metadata keys"; v1 is the only version served.
PATH = "/computeMetadata/v1/instance/?recursive=true"
# It is sent to show that the request is meant, and comes back to show who answers ("Query VM metadata").
FLAVOR = {"Metadata-Flavor": "Google"}
ANSWER_SECONDS = 5.0
# An instance's network may come up after its programs; then its group is better served by another instance.
LIMIT_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance as its metadata describe it. mig and template are empty for one that no group made.

    settings: the attribute dist-test-settings, INI text; empty when it is not set.
    """

    name: str
    instance_id: str
    zone: str
    mig: str
    template: str
    settings: str = field(repr=False)

    @property
    def values(self) -> dict[str, str]:
        """What the instance is, as settings."""
        return {
            "slave.id": self.name,
            "slave.instance_id": self.instance_id,
            "slave.zone": self.zone,
            "slave.mig": self.mig,
            "slave.template": self.template,
        }


def configure(url: str, *, base: Path, output: Path) -> str:
    """Write `output`, readable by its owner alone: `base`, the instance's attribute over it, its identity over both.

    The slave watches the same server for a preemption, unless the attribute says otherwise.

    Gives the slave's id. Raises MetadataUnavailable, ConfigurationError, which leave `output` as it was, and OSError.
    """
    instance = fetch_instance(url)
    own, problems = parse_ini(base.read_text(encoding="utf-8"), where=str(base))
    told, more = parse_ini(instance.settings, where=f"the instance's attribute {SETTINGS_ATTRIBUTE}")
    if problems or more:
        raise ConfigurationError("\n".join(problems + more))
    _write(output, {**own, "slave.metadata_url": url, **told, **instance.values})
    return instance.name


def fetch_instance(
    url: str, *, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> Instance:
    """Ask the metadata server at `url`, again and again for two minutes. Raises MetadataUnavailable."""
    deadline = now() + LIMIT_SECONDS
    pause = 0.5
    while True:
        try:
            return _instance(_ask(f"{url.rstrip('/')}{PATH}"), url)
        except _NotYet as exc:
            if now() + pause > deadline:
                raise MetadataUnavailable(f"{exc}, for {LIMIT_SECONDS:g} s") from exc
            logger.info("Waiting for the metadata server: %s", exc, extra={"action": "metadata_awaited"})
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class _NotYet(Exception):
    """The same request may succeed later."""


def _ask(url: str) -> Any:
    with requests.Session() as session:
        session.trust_env = False  # a proxy would add X-Forwarded-For, which the server refuses, or answer for it
        try:
            response = session.get(url, headers=FLAVOR, timeout=ANSWER_SECONDS, allow_redirects=False)
        except requests.RequestException as exc:
            raise _NotYet(f"the metadata server at {url} did not answer: {exc}") from exc
    if response.status_code >= 500:
        raise _NotYet(f"the metadata server at {url} answered {response.status_code}")
    refuse_impostor(response, "--metadata")
    try:
        return response.json()
    except requests.JSONDecodeError as exc:
        raise MetadataUnavailable(f"the metadata server at {url} did not answer with JSON: {exc}") from exc


def refuse_impostor(response: requests.Response, source: str) -> None:
    """Raise MetadataUnavailable for what is no answer of a metadata server; `source` is where its address is from."""
    if response.status_code != 200:
        raise MetadataUnavailable(f"the metadata server at {response.url} answered {response.status_code}")
    for name, value in FLAVOR.items():
        if response.headers.get(name) != value:
            raise MetadataUnavailable(
                f"{response.url} is no metadata server: its answer lacks {name}: {value}; correct {source}"
            )


def _instance(document: Any, url: str) -> Instance:
    try:
        attributes = document["attributes"]
        return Instance(
            name=document["name"],
            instance_id=str(document["id"]),  # a number in JSON, and text everywhere else in Google's API
            zone=_last(document["zone"]),  # projects/NUMBER/zones/ZONE
            mig=_last(attributes.get("created-by", "")),  # .../instanceGroupManagers/NAME
            template=_last(attributes.get("instance-template", "")),  # .../instanceTemplates/NAME
            settings=attributes.get(SETTINGS_ATTRIBUTE, ""),
        )
    except (KeyError, TypeError, AttributeError) as exc:
        raise MetadataUnavailable(f"the metadata server at {url} does not describe an instance: {exc!r}") from exc


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _write(output: Path, values: Mapping[str, str]) -> None:
    output.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # It belongs to its owner alone from the start; only a file that a slave can start with takes the old one's place.
    handle, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            _document(values).write(file)
        load_slave_settings({"DIST_TEST_CNF": name})
        Path(name).replace(output)
    finally:
        Path(name).unlink(missing_ok=True)


def _document(values: Mapping[str, str]) -> configparser.ConfigParser:
    document = configparser.ConfigParser(interpolation=None)
    for name, value in values.items():
        section, _, key = name.partition(".")
        if not document.has_section(section):
            document.add_section(section)
        document.set(section, key, value)
    return document
