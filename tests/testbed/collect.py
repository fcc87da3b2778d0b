"""Print what there is on this host, as one JSON object of texts. Runs on the host, as root, with Debian's Python.

Every fact has a name, such as "path /etc/hosts", and a value that says all that two hosts should agree on. The facts
of a service that is older than its configuration are called "stale UNIT".
"""

import collections
import grp
import hashlib
import json
import os
import pwd
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

WHOLE = ("/etc", "/opt", "/usr/local", "/root", "/home")
# What lies deeper in there is data, which differs from host to host.
DATA = ("/var/lib", "/var/backups")
DATA_DEPTH = 2
PROGRAMS = re.compile(r"/opt/dist_test/|mariadbd|beanstalkd|nginx|/weed\b")
NAMES_FILES = ("FragmentPath", "DropInPaths", "ExecStart", "Environment", "EnvironmentFiles")
# Files that a service reads and its unit does not name, by the unit's name.
READ_BY = {
    "mariadb.service": ("/etc/mysql",),
    "nginx.service": ("/etc/nginx", "/etc/dist_test/tls"),
    "beanstalkd.service": ("/etc/default/beanstalkd",),
    "ssh.service": ("/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d"),
}
# When a service has read its configuration last. One that is reloaded changes its state then, and else only to start.
READ_AT = {"nginx.service": "StateChangeTimestampMonotonic"}


def collect() -> dict[str, str]:
    """All facts by name."""
    facts = dict(paths())
    for part in (packages, accounts, units, processes, stale_services, grants):
        facts.update(part())
    facts["nft ruleset"] = output("nft", "--stateless", "list", "ruleset")
    return facts


def paths() -> Iterator[tuple[str, str]]:
    """Everything under WHOLE, and the upper directories of DATA, that is on the host's own file system."""
    for top in WHOLE:
        yield from describe_tree(Path(top), depth=None)
    for top in DATA:
        yield from describe_tree(Path(top), depth=DATA_DEPTH)


def describe_tree(top: Path, *, depth: int | None) -> Iterator[tuple[str, str]]:
    device = top.lstat().st_dev
    for directory, names, files in os.walk(top):
        here = Path(directory)
        names[:] = [name for name in names if (here / name).lstat().st_dev == device]
        for name in names if depth else [*names, *files]:
            if describes := describe(here / name):
                yield f"path {here / name}", describes
        if depth and len(here.relative_to(top).parts) + 1 >= depth:
            names.clear()


def describe(path: Path) -> str | None:
    """Kind, mode, owner and content; None when it has just gone."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return f"link {path.readlink()}"
        return f"{stat.filemode(status.st_mode)} {owner(status)} {digest(path, status)}".strip()
    except FileNotFoundError:
        return None


def owner(status: os.stat_result) -> str:
    return f"{name_or_number(pwd.getpwuid, status.st_uid)}:{name_or_number(grp.getgrgid, status.st_gid)}"


def name_or_number(look_up: object, number: int) -> str:
    try:
        return str(look_up(number)[0])  # type: ignore[operator]  # pwd and grp answer with different records
    except KeyError:
        return str(number)


def digest(path: Path, status: os.stat_result) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if stat.S_ISREG(status.st_mode) else ""


def packages() -> Iterator[tuple[str, str]]:
    manual = set(output("apt-mark", "showmanual").split())
    for line in output("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n").splitlines():
        name, _, rest = line.partition(" ")
        yield f"package {name}", f"{rest.strip()} {'manual' if name in manual else 'automatic'}"


def accounts() -> Iterator[tuple[str, str]]:
    for kind, path in (("user", "/etc/passwd"), ("group", "/etc/group")):
        for line in Path(path).read_text().splitlines():
            yield f"{kind} {line.partition(':')[0]}", line


def units() -> Iterator[tuple[str, str]]:
    """Which are enabled, and which run: services, sockets, timers and paths."""
    kinds = "--type=service,socket,timer,path"
    for line in output("systemctl", "list-unit-files", kinds, "--no-legend", "--plain").splitlines():
        name, state = line.split()[:2]
        yield f"unit file {name}", state
    for line in output("systemctl", "list-units", kinds, "--no-legend", "--plain").splitlines():
        name, _, active, sub = line.split()[:4]
        yield f"unit {name}", f"{active} {sub}"


def processes() -> Iterator[tuple[str, str]]:
    """The cluster's programs by command line, and as whom each runs how often."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            user = name_or_number(pwd.getpwuid, directory.stat().st_uid)
        except FileNotFoundError:
            continue
        if PROGRAMS.search(command):
            counts[command, user] += 1
    for (command, user), count in counts.items():
        yield f"process {command} of {user}", str(count)


def stale_services() -> Iterator[tuple[str, str]]:
    listed = output("systemctl", "list-units", "--type=service", "--state=running", "--no-legend", "--plain")
    for line in listed.splitlines():
        unit = line.split()[0]
        started = start_time(unit)
        newer = sorted({str(path) for path in files_of(unit) if path.lstat().st_mtime > started})
        if newer:
            yield f"stale {unit}", f"older than {', '.join(newer)}"


def start_time(unit: str) -> float:
    """Seconds since the epoch; systemd's own wall-clock figures have seconds only."""
    monotonic = int(show(unit, READ_AT.get(unit, "ExecMainStartTimestampMonotonic"))) / 1e6
    return time.time() - time.monotonic() + monotonic


def files_of(unit: str) -> Iterator[Path]:
    """Its unit files, and what they and the command line name, links themselves and not what they lead to."""
    named = [show(unit, name) for name in NAMES_FILES]
    named += re.findall(r"^LoadCredential=(.*)$", output("systemctl", "cat", unit), re.MULTILINE)
    for word in re.split(r"[\s=:;{}]+", " ".join(named)):
        if word.startswith(("/etc/", "/opt/", "/usr/local/")):
            yield from existing([Path(word), *Path(word).parents])
    for top in READ_BY.get(unit, ()):
        yield from existing([Path(top), *Path(top).rglob("*")])


def existing(candidates: Iterable[Path]) -> Iterator[Path]:
    """Files and links, not directories: those change whenever anything in them comes or goes."""
    return (path for path in candidates if path.is_symlink() or path.is_file())


def show(unit: str, name: str) -> str:
    return output("systemctl", "show", "--value", "--property", name, unit).strip()


def grants() -> Iterator[tuple[str, str]]:
    if not Path("/run/mysqld/mysqld.sock").exists():
        return
    for line in query("SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.global_priv ORDER BY 1"):
        yield f"grants {line}", "\n".join(sorted(query(f"SHOW GRANTS FOR {line}")))  # quoted by the server


def query(statement: str) -> list[str]:
    return output("mariadb", "--batch", "--skip-column-names", "--execute", statement).splitlines()


def output(*command: str) -> str:
    """What it prints; nothing when the host has no such program."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    json.dump(collect(), sys.stdout)
