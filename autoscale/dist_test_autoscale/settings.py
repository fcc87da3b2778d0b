"""The autoscaler's configuration: a TOML file read into frozen records, every mistake named at once.

Names of fields are those of the file, units included. `in` and `out` are words that Python or a reader trips over, so
those tables are called scale_in and scale_out here.
"""

import difflib
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dist_test.errors import ConfigurationError, shortened, shown
from dist_test_autoscale.catalog import SECTIONS, default_value, keys_of

DEFAULT_PATH = Path("/etc/dist_test/autoscale.toml")
MIN_GRACE_S = 60.0  # Google bills the first minute in full: an instance younger than that is paid for anyway


@dataclass(frozen=True, kw_only=True)
class SizeSettings:
    """How many slaves the work is worth."""

    slots_per_slave: int
    min_total: int
    max_total: int
    min_idle: int
    target_drain_s: float
    wait_value: float
    default_task_s: float


@dataclass(frozen=True, kw_only=True)
class ScaleOutSettings:
    """How slaves are bought."""

    max_per_min: int
    boot_s_default: float
    boot_timeout_s: float
    failed_after_s: float


@dataclass(frozen=True, kw_only=True)
class ScaleInSettings:
    """How slaves are given back. `idle_grace_s` is None where the time of a boot decides."""

    stabilize_s: float
    idle_grace_s: float | None
    min_uptime_s: float
    max_per_min: int
    max_fraction: float
    drain_ack_timeout_s: float
    queue_restart_hold_s: float

    def grace_s(self, boot_s: float) -> float:
        """Seconds of idleness before a slave may go. Idling as long as a boot takes costs at most twice the optimum."""
        return max(MIN_GRACE_S, boot_s) if self.idle_grace_s is None else self.idle_grace_s


@dataclass(frozen=True, kw_only=True)
class GroupSettings:
    """A managed instance group, zonal or regional."""

    name: str
    zone: str | None
    region: str | None
    priority: int
    spot: bool
    min: int
    max: int


@dataclass(frozen=True, kw_only=True)
class PolicySettings:
    """All that a decision depends on."""

    stale_s: float
    size: SizeSettings
    scale_out: ScaleOutSettings
    scale_in: ScaleInSettings
    groups: tuple[GroupSettings, ...]

    def group(self, name: str) -> GroupSettings | None:
        """The group of this name; None for one that is not ours to change."""
        return next((group for group in self.groups if group.name == name), None)


@dataclass(frozen=True, kw_only=True)
class QueueSettings:
    """How to reach beanstalkd."""

    host: str
    port: int
    tube: str


@dataclass(frozen=True, kw_only=True)
class MysqlSettings:
    """How to reach the database."""

    host: str
    port: int
    user: str
    password_file: str
    db: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole file. `queue` and `mysql` are None where the common INI file tells how to reach them."""

    path: Path
    interval_s: float
    dry_run: bool
    listen: str
    project: str
    api_endpoint: str
    api_version: str
    credentials: str
    queue: QueueSettings | None
    mysql: MysqlSettings | None
    policy: PolicySettings


def load_settings(path: Path) -> Settings:
    """Read the file. Raises ConfigurationError with all that is wrong with it, a line each."""
    document = _read(path)
    source = _Source(where=f"{path}: ", prefix="autoscale.", is_whole=True)
    table = source.table(document, "autoscale")
    source.refuse_unknown(document, ["autoscale"], prefix="")
    values = source.values(table, "")
    policy = source.policy(table, stale_s=values.pop("stale_s"))
    queue = QueueSettings(**source.values(table["queue"], "queue")) if "queue" in table else None
    mysql = MysqlSettings(**source.values(table["mysql"], "mysql")) if "mysql" in table else None
    source.check()
    return Settings(path=path, queue=queue, mysql=mysql, policy=policy, **values)


def policy_settings(document: Any, *, where: str) -> PolicySettings:
    """The part of a configuration that decides, from the content of its [autoscale] table; other keys are only checked.

    A group needs neither zone nor region here. `where` begins the messages. Raises ConfigurationError.
    """
    source = _Source(where=where, prefix="config.", is_whole=False)
    table = source.mapping(document, "config")
    values = source.values(table, "")
    policy = source.policy(table, stale_s=values["stale_s"])
    for section in ("queue", "mysql"):
        source.values(table.get(section, {}), section)
    source.check()
    return policy


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc}") from exc
    except (ValueError, RecursionError) as exc:  # thousands of digits, or of brackets
        raise ConfigurationError(f"{path} cannot be read: {exc}") from exc


class _Source:
    """The values of one document; problems are collected until `check` raises them all."""

    def __init__(self, *, where: str, prefix: str, is_whole: bool) -> None:
        self._where = where
        self._prefix = prefix
        self._is_whole = is_whole
        self._problems: list[str] = []
        self._is_readable = True

    def check(self) -> None:
        """Raise ConfigurationError with every problem found so far, if there is one."""
        if self._problems:
            raise ConfigurationError("\n".join(self._problems))

    def table(self, document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        """A table of this name, empty where it is missing."""
        return self.mapping(document.get(name, {}), name)

    def mapping(self, value: Any, path: str) -> Mapping[str, Any]:
        """The value, which is to be a table."""
        if isinstance(value, Mapping):
            return value
        self._bad(path, value, "give a table")
        return {}

    def values(self, value: Any, section: str, *, path: str = "") -> dict[str, Any]:
        """The parsed values of a table, defaults included; `path` names it where it is one of several."""
        keys = keys_of(section)
        prefix = f"{self._prefix}{path or section}." if section else self._prefix
        table = self.mapping(value, prefix.rstrip("."))
        known = [key.name for key in keys]
        self.refuse_unknown(table, known if section else [*known, *SECTIONS], prefix=prefix)
        return {key.name: self._value(table, key, prefix) for key in keys}

    def policy(self, table: Mapping[str, Any], *, stale_s: float) -> PolicySettings:
        """The deciding tables, checked for contradictions once each value is good in itself."""
        size, scale_out, scale_in = (self.values(table.get(name, {}), name) for name in ("size", "out", "in"))
        groups = self._groups(table.get("group", []))
        policy = PolicySettings(
            stale_s=stale_s,
            size=SizeSettings(**size),
            scale_out=ScaleOutSettings(**scale_out),
            scale_in=ScaleInSettings(**scale_in),
            groups=tuple(GroupSettings(**group) for group in groups),
        )
        if self._is_readable:
            found = (*_contradictions(policy, is_whole=self._is_whole), *self._places(policy.groups))
            self._problems += [f"{self._where}{self._prefix}{one}" for one in found]
        return policy

    def refuse_unknown(self, table: Iterable[str], known: Sequence[str], *, prefix: str) -> None:
        """Note each key that is not known, with the one that may have been meant."""
        for name in (name for name in table if name not in known):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(filter(None, known))}"
            self._problems.append(f"{self._where}{prefix}{shortened(name)} is not known{hint}")

    def _groups(self, value: Any) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            self._bad(f"{self._prefix}group", value, "give a list of tables, each under [[autoscale.group]]")
            return []
        return [self.values(table, "group", path=f"group[{place}]") for place, table in enumerate(value)]

    def _value(self, table: Mapping[str, Any], key: Any, prefix: str) -> Any:
        if key.name not in table:
            if key.needed and (self._is_whole or key.section == "group"):
                self._is_readable = False
                self._problems.append(
                    f"{self._where}{prefix}{key.name} is not set: {key.help[0].lower()}{key.help[1:]}"
                )
            return default_value(key)
        try:
            return key.parse(table[key.name])
        except ValueError as exc:
            self._bad(f"{prefix}{key.name}", table[key.name], str(exc))
            return default_value(key)

    def _bad(self, path: str, value: Any, advice: str) -> None:
        self._is_readable = False
        self._problems.append(f"{self._where}{path} is {shown(value)}: {advice}")

    def _places(self, groups: Sequence[GroupSettings]) -> Iterator[str]:
        for place, group in enumerate(groups):
            if group.zone and group.region:
                yield f"group[{place}] ({group.name}) has both zone and region: keep zone for a zonal group, or region"
            elif self._is_whole and not group.zone and not group.region:
                yield f"group[{place}] ({group.name}) has neither zone nor region: give one of them"


def _contradictions(policy: PolicySettings, *, is_whole: bool) -> Iterator[str]:
    size, boot_s = policy.size, policy.scale_out.boot_s_default
    if size.target_drain_s <= boot_s:
        yield f"size.target_drain_s is {size.target_drain_s:g}, no more than out.boot_s_default, {boot_s:g}: raise it"
    if size.min_total > size.max_total:
        yield f"size.min_total is {size.min_total}, more than size.max_total, {size.max_total}: lower it"
    yield from _group_contradictions(policy, is_whole=is_whole)


def _group_contradictions(policy: PolicySettings, *, is_whole: bool) -> Iterator[str]:
    """is_whole: not a snapshot's, where operators may have pinned groups at more than all together may have."""
    if not policy.groups:
        yield "group is empty: name at least one managed instance group"
        return
    for name, count in Counter(group.name for group in policy.groups).items():
        if count > 1:
            yield f"group {name} is there {count} times: keep one of them"
    for place, group in enumerate(policy.groups):
        if group.min > group.max:
            yield f"group[{place}].min ({group.name}) is {group.min}, more than its max, {group.max}: lower it"
    least, most = sum(group.min for group in policy.groups), sum(group.max for group in policy.groups)
    if most < policy.size.min_total:
        yield f"size.min_total is {policy.size.min_total}, but the groups' max add up to {most}: lower it"
    if is_whole and least > policy.size.max_total:
        yield f"size.max_total is {policy.size.max_total}, but the groups' min add up to {least}: raise it"


def policy_document(policy: PolicySettings) -> dict[str, Any]:
    """The settings as a snapshot's `config` has them; `policy_settings` reads them back."""
    grace_s = policy.scale_in.idle_grace_s
    return {
        "stale_s": policy.stale_s,
        "size": dict(vars(policy.size)),
        "out": dict(vars(policy.scale_out)),
        "in": vars(policy.scale_in) | {"idle_grace_s": "auto" if grace_s is None else grace_s},
        "group": [{key: value for key, value in vars(group).items() if value is not None} for group in policy.groups],
    }
