"""What there is on a host, to be compared: after one deployment and another, or before a run and after it."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from images.commands import run
from images.machine import Machine

_COLLECTOR = Path(__file__).with_name("collect.py")

# Facts by name that differ between two hosts on which the same was done, and why.
NOISE = (
    r"path /etc/(machine-id|ssh/ssh_host_.*|\.pwd\.lock)",  # each host's own
    r"path /etc/ld\.so\.cache",  # has the inode numbers of libraries
    r"path /etc/.*-",  # passwd- and the like: as it was before the last change
    r"path /(root|home/ops)/\.(ansible|cache)(/.*)?",  # Ansible's workshop; pip's cache
    r"path .*/__pycache__(/.*)?",  # has the times of what it was compiled from
    r"path /opt/dist_test/releases/[^/]+/lib(64)?(/.*)?",  # what pip made; the release is named after what went in
    r"path /var/lib/(apt|dpkg|systemd|pam|private/systemd)(/.*)?",  # lists, timers' stamps: come and go by themselves
    r"path /var/backups/.*\.(gz|\d+)",
    r"process .*launcher\.main\(.*",  # a part of the slave; has numbers of its open files
    r"unit (user@|user-runtime-dir@|session-|run-|systemd-tmpfiles-).*",  # the last fails now and then: 219/CGROUP
    r"unit (apt-daily|dpkg-db-backup|e2scrub|fstrim|logrotate).*\.service",  # their timers start them
    r"unit (systemd-(hostnamed|localed|timedated|networkd-wait-online)|man-db).*",  # run when asked, and end
    r"unit file (run-|session-).*",
)
# Paths whose content each host makes for itself; that they are there, their mode and owner must agree all the same.
OWN_CONTENT = (r"path /etc/dist_test/tls/.*", r"path /etc/(shadow|gshadow)")

_NOISE = re.compile("|".join(f"(?:{pattern})" for pattern in NOISE))
_OWN_CONTENT = re.compile("|".join(f"(?:{pattern})" for pattern in OWN_CONTENT))


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Facts by name, such as "path /etc/hosts": "-rw-r--r-- root:root SHA", without the noise."""

    facts: Mapping[str, str]

    @classmethod
    def of(cls, host: Machine) -> "Snapshot":
        """Takes about two seconds. Raises MachineError when the host does not answer."""
        collected = run(*host.ssh_command(["sudo python3 -"]), text=_COLLECTOR.read_text())
        return cls.from_facts(json.loads(collected))

    @classmethod
    def from_facts(cls, facts: Mapping[str, str]) -> "Snapshot":
        """Leaves out what differs for no reason that matters."""
        kept = {name: _comparable(name, value) for name, value in facts.items() if not _NOISE.fullmatch(name)}
        return cls(facts=kept)

    @property
    def stale_services(self) -> list[str]:
        """Services that run with an older configuration than the one on disk, in a phrase each."""
        return [f"{name[6:]} is {value}" for name, value in self.facts.items() if name.startswith("stale ")]

    @property
    def failed_units(self) -> list[str]:
        return [name for name, value in self.facts.items() if name.startswith("unit ") and value.startswith("failed")]


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """One entry for each fact in which they differ, with both values; nothing when they agree."""
    return [_difference(name, before, after) for name in sorted(_unequal(before, after))]


def _unequal(before: Snapshot, after: Snapshot) -> Iterator[str]:
    for name in before.facts.keys() | after.facts.keys():
        if before.facts.get(name) != after.facts.get(name):
            yield name


def _difference(name: str, before: Snapshot, after: Snapshot) -> str:
    if name not in after.facts:
        return f"only before: {name}: {before.facts[name]}"
    if name not in before.facts:
        return f"only after: {name}: {after.facts[name]}"
    lines = difflib.ndiff(before.facts[name].splitlines(), after.facts[name].splitlines())
    return "\n".join([f"{name}:", *(f"    {line}" for line in lines if line[0] in "-+")])


def _comparable(name: str, value: str) -> str:
    return value.rpartition(" ")[0] if _OWN_CONTENT.fullmatch(name) and value.startswith("-") else value
