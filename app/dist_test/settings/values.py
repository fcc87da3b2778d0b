"""Turn the text of a setting into a value, or say what is wrong with it. A parser raises ValueError with the reason."""

import ipaddress
import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Parser = Callable[[str], Any]

MAX_SECONDS = 1_000 * 86_400  # more is a slip of the pen, and in the end too much for a timedelta
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_FACTORS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_AGE = re.compile(r"(\d{1,4})([hdw])")
_HOURS = {"h": 1, "d": 24, "w": 7 * 24}
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def text(raw: str) -> str:
    """Any text."""
    return raw


def path(raw: str) -> Path:
    """A path; `~` is the home directory."""
    try:
        return Path(raw).expanduser()
    except RuntimeError as exc:
        raise ValueError("there is no such home directory; give an absolute path") from exc


def integer(low: int, high: int) -> Parser:
    """A parser for whole numbers from `low` to `high`."""

    def parse(raw: str) -> int:
        if not re.fullmatch(r"-?\d+", raw) or not low <= int(raw) <= high:
            raise ValueError(f"give a whole number from {low} to {high}")
        return int(raw)

    return parse


def seconds(raw: str) -> float:
    """A positive number of seconds, at most a thousand days; fractions are allowed."""
    if not re.fullmatch(r"\d+(\.\d+)?", raw) or not 0 < float(raw) <= MAX_SECONDS:
        raise ValueError(f"give a number of seconds above 0, at most {MAX_SECONDS}")
    return float(raw)


def age(raw: str) -> timedelta:
    """What is younger is kept: hours, days or weeks, one hour at least."""
    match = _AGE.fullmatch(raw)
    if match is None or int(match[1]) == 0:
        raise ValueError("give an age such as 12h, 30d or 8w, from 1h on")
    return timedelta(hours=int(match[1]) * _HOURS[match[2]])


def size(raw: str) -> int:
    """A number of bytes; K, M, G and T are powers of 1024."""
    match = _SIZE.fullmatch(raw.strip())
    if match is None:
        raise ValueError("give a number of bytes such as 500M or 20G")
    return int(match[1]) * _FACTORS[match[2].upper()]


def boolean(raw: str) -> bool:
    """True or false, in the spellings of INI files."""
    if raw.lower() not in _BOOLEANS:
        raise ValueError("give true or false")
    return _BOOLEANS[raw.lower()]


def url(raw: str) -> str:
    """An http or https address; trailing slashes are dropped, since the original's documentation shows one."""
    parts = urlsplit(raw)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("give an address such as http://master.example.com:8081")
    return raw.rstrip("/")


def address(raw: str) -> str:
    """HOST:PORT to listen on."""
    host, colon, port = raw.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("give HOST:PORT, such as 0.0.0.0:8081")
    return raw


def names(raw: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in raw.split(",") if name.strip())


def networks(raw: str) -> tuple[Network, ...]:
    """Address ranges in CIDR notation separated by commas; IPv4 and IPv6."""
    found = []
    for name in names(raw):
        try:
            found.append(ipaddress.ip_network(name, strict=False))
        except ValueError:
            raise ValueError(f"{name} is not an address range; give ranges such as 172.16.0.0/16, ::1") from None
    return tuple(found)


def text_map(raw: str) -> dict[str, str]:
    """A JSON object whose values are texts."""
    try:
        value = json.loads(raw)
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON: {exc.msg} at character {exc.pos}") from exc
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError('give a JSON object of texts, such as {"name": "value"}')
    return value


def arguments(raw: str) -> tuple[str, ...]:
    """Command-line words, quoted as for a shell."""
    import shlex

    return tuple(shlex.split(raw))


def store(raw: str) -> str:
    """`disk:/absolute/path` or `s3:BUCKET`."""
    kind, _, where = raw.partition(":")
    if (kind == "disk" and where.startswith("/")) or (kind == "s3" and where):
        return raw
    raise ValueError("give disk:/absolute/path or s3:BUCKET")
