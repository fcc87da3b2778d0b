"""Every key of the autoscaler's configuration file: the one list behind the loader, its messages and the reference."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Parser = Callable[[Any], Any]
"""Turns a value of TOML or JSON into ours, or raises ValueError with the reason."""

# Compute Engine's own patterns, from the discovery document of its API.
PROJECT = (
    r"(?:(?:[-a-z0-9]{1,63}\.)*(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?):)?"
    r"(?:[0-9]{1,19}|(?:[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?))"
)
RESOURCE = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"

MAX_SLAVES = 100_000
MAX_SECONDS = 7 * 86_400


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key. `section` is "" for the [autoscale] table itself; a key without default may be `needed` in its table."""

    section: str
    name: str
    parse: Parser
    default: Any
    help: str
    needed: bool = False


def integer(low: int, high: int) -> Parser:
    """A parser for whole numbers from `low` to `high`."""

    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return value

    return parse


def number(low: float, high: float) -> Parser:
    """A parser for numbers from `low` to `high`."""

    def parse(value: Any) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            raise ValueError(f"give a number from {low} to {high}")
        return float(value)

    return parse


def fraction(value: Any) -> float:
    """A number above 0, at most 1."""
    if type(value) not in (int, float) or not 0 < value <= 1:
        raise ValueError("give a number above 0, at most 1")
    return float(value)


def seconds_or_auto(value: Any) -> float | None:
    """A number of seconds; None for "auto"."""
    if value == "auto":
        return None
    if type(value) not in (int, float) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f'give "auto" or a number of seconds from 0 to {MAX_SECONDS}')
    return float(value)


def boolean(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise ValueError("give true or false, without quotes")
    return value


def text(value: Any) -> str:
    """Any text but the empty one."""
    if not isinstance(value, str) or not value:
        raise ValueError("give a text")
    return value


def matching(pattern: str, example: str) -> Parser:
    """A parser for texts that Compute Engine accepts in this place."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"Compute Engine takes only names such as {example}")
        return value

    return parse


def address(value: Any) -> str:
    """HOST:PORT to listen on."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("give HOST:PORT, such as 127.0.0.1:9109")
    return str(value)


def endpoint(value: Any) -> str:
    """An address with the path that the client library leaves to it; "" stays empty and means Google's own."""
    if value == "":
        return ""
    parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("give an address such as http://127.0.0.1:8080/compute/v1/")
    # The library replaces its whole base URL by this one: without the path every call would be answered 404.
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/compute/v1'}/"


def credentials(value: Any) -> str:
    """How to log in to Compute Engine."""
    if not isinstance(value, str) or not re.fullmatch(r"adc|anonymous|file:/.+", value):
        raise ValueError("give adc, anonymous or file:/absolute/path")
    return value


def api_version(value: Any) -> str:
    """The version of the API that we know."""
    if value != "v1":
        raise ValueError("only v1 is supported")
    return "v1"


_PORT = integer(1, 65535)
_SECONDS = number(0, MAX_SECONDS)
_COUNT = integer(0, MAX_SLAVES)


def _key(path: str, parse: Parser, default: Any, help: str, *, needed: bool = False) -> Key:
    section, _, name = path.rpartition(".")
    return Key(section=section, name=name, parse=parse, default=default, help=help, needed=needed)


CATALOG: tuple[Key, ...] = (
    _key("interval_s", number(2, 3600), 10, "Seconds between two decisions."),
    _key("stale_s", number(1, 3600), 60, "Age in seconds at which statistics and heartbeats are no longer believed."),
    _key("dry_run", boolean, False, "Decide and record, but change nothing."),
    _key("listen", address, "127.0.0.1:9109", "Address of /metrics, /healthz, /readyz and /plan."),
    _key("project", matching(PROJECT, "my-project"), None, "Project of the instance groups.", needed=True),
    _key("api_endpoint", endpoint, "", "Address of Compute Engine's API, where it is not Google's."),
    _key("api_version", api_version, "v1", "Version of Compute Engine's API."),
    _key(
        "credentials",
        credentials,
        "adc",
        "adc (those of the machine or its user), anonymous, or file:/path of a service account's key.",
    ),
    _key("queue.host", text, None, "Host of beanstalkd. Without this table: that of the common INI file.", needed=True),
    _key("queue.port", _PORT, 11300, "Port of beanstalkd."),
    _key("queue.tube", text, "default", "Tube that holds the attempts."),
    _key("mysql.host", text, None, "Host of the database. Without this table: the common INI file's.", needed=True),
    _key("mysql.port", _PORT, 3306, "Port of the database."),
    _key("mysql.user", text, None, "Database account.", needed=True),
    _key("mysql.password_file", text, None, "File that holds the account's password.", needed=True),
    _key("mysql.db", text, None, "Name of the database.", needed=True),
    _key("size.slots_per_slave", integer(1, 256), 1, "Tasks that one bought slave runs at a time."),
    _key("size.min_total", _COUNT, 0, "Slaves that are always there."),
    _key("size.max_total", _COUNT, 100, "Slaves that are never exceeded, over all groups."),
    _key("size.min_idle", _COUNT, 0, "Slaves kept beyond what the work needs, while there is work."),
    _key("size.target_drain_s", number(1, MAX_SECONDS), 600, "Seconds in which the waiting work shall be done."),
    _key(
        "size.wait_value",
        number(0, 1_000_000),
        20,
        "Slave-seconds that one second of a developer's waiting is worth; 0 buys only for target_drain_s.",
    ),
    _key("size.default_task_s", number(0.001, MAX_SECONDS), 60, "Expected seconds of a task without history."),
    _key("out.max_per_min", integer(1, MAX_SLAVES), 100, "Slaves bought in any 60 seconds, at most."),
    _key("out.boot_s_default", number(1, 3600), 90, "Seconds from buying a slave to its first task, until measured."),
    _key("out.boot_timeout_s", number(60, 86_400), 600, "Seconds after which an instance without slave is given up."),
    _key(
        "out.failed_after_s",
        _SECONDS,
        45,
        "Seconds that Compute Engine may go on trying to make an instance after an error, until it is given up.",
    ),
    _key("in.stabilize_s", _SECONDS, 300, "Seconds that demand must have been lower before slaves are given back."),
    _key(
        "in.idle_grace_s",
        seconds_or_auto,
        "auto",
        'Seconds that a slave must have been idle to be given back; "auto" is what a boot takes, 60 at least.',
    ),
    _key("in.min_uptime_s", _SECONDS, 60, "Seconds for which a slave is kept in any case; Google bills 60."),
    _key("in.max_per_min", integer(1, MAX_SLAVES), 40, "Slaves drained in any 60 seconds, at most."),
    _key("in.max_fraction", fraction, 0.5, "Part of the slaves that may be drained at once; one always may."),
    _key("in.drain_ack_timeout_s", _SECONDS, 120, "Seconds after which a drain that nothing came of is taken back."),
    _key(
        "in.queue_restart_hold_s",
        _SECONDS,
        300,
        "Seconds without a drain after beanstalkd was restarted, while its entries may be incomplete.",
    ),
    _key("group.name", text, None, "Name of a managed instance group.", needed=True),
    _key("group.zone", matching(RESOURCE, "europe-west1-b"), None, "Zone of a zonal group."),
    _key("group.region", matching(RESOURCE, "europe-west1"), None, "Region of a regional group."),
    _key("group.priority", integer(-1000, 1000), 0, "Groups with a lower number are filled first."),
    _key("group.spot", boolean, False, "Whether the group's instances are spot: cheap, and kept longest."),
    _key("group.min", _COUNT, 0, "Slaves that are always in this group."),
    _key("group.max", _COUNT, 100, "Slaves that are never exceeded in this group."),
)

SECTIONS = tuple(dict.fromkeys(key.section for key in CATALOG))


def keys_of(section: str) -> tuple[Key, ...]:
    """The keys of one table, in the order of the catalogue."""
    return tuple(key for key in CATALOG if key.section == section)


def default_value(key: Key) -> Any:
    """The parsed default; None when there is none."""
    return None if key.default is None else key.parse(key.default)
