"""What the views of one application work with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from flask import current_app

from dist_test.master.audit_desk import AuditDesk
from dist_test.master.forecast import Forecast
from dist_test.master.kept import Kept
from dist_test.master.live import Live
from dist_test.master.overview import Overview
from dist_test.master.probes import Probe
from dist_test.master.service import Service

_KEY = "dist_test"


class LogStream(Protocol):
    """The bytes of a stored log."""

    def read(self, size: int | None = None) -> bytes: ...

    def close(self) -> None: ...


class ResultStore(Protocol):
    """Where logs and artifacts are."""

    def open(self, key: str) -> LogStream: ...

    def read_range(self, key: str, *, start: int, size_bytes: int) -> bytes: ...

    def presign_get(self, key: str, *, seconds: int = ..., filename: str | None = None) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Site:
    """`probes` by what they look at. isolate_server: its address, where the master knows it.

    home: renderings of the first page, by what was asked for.
    """

    service: Service
    results: ResultStore
    overview: Overview
    forecast: Forecast
    home: Kept[str]
    live: Live
    audits: AuditDesk
    isolate_server: str | None
    probes: Mapping[str, Probe]


def site() -> Site:
    """The site of the application that is answering."""
    found: Site = current_app.extensions[_KEY]
    return found


def install(extensions: dict[str, object], made: Site) -> None:
    """Make this the site of the application whose `extensions` these are."""
    extensions[_KEY] = made
