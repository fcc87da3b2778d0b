"""What roles have done to a host: operations that pyinfra lacks, and its own with what all of our roles give them.

Each of ours looks at the host twice: pyinfra runs the function of an operation when it plans and again when it acts,
and keeps no fact between, so that in the second phase it sees what earlier operations of the same run have done.
"""

import base64
import hashlib
import io
import shlex
from collections.abc import Generator, Iterable, Sequence
from typing import IO

from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.api.operation import operation
from pyinfra.api.state import StateStage
from pyinfra.context import host, state
from pyinfra.facts.files import File, Sha256File
from pyinfra.operations import files, server

LIBRARY = "/usr/local/lib/dist_test"
_UNCHANGED = "unchanged"
# What Ansible's apt module passes; and it waits for another apt, such as the one that Debian starts after a boot.
_APT = (
    "DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Options::=--force-confdef"
    " -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300"
)
# The option is for dpkg's lock only; the one of the lists has none.
_UPDATE = "for pause in 5 15 40; do apt-get -qq update && exit 0; sleep $pause; done; apt-get -qq update"


class Output(FactBase[str]):
    """What a command prints on stdout; '' when it fails."""

    def command(self, line: str) -> str:
        return f"({line}) 2>/dev/null || true"

    @staticmethod
    def default() -> str:
        return ""


class Failure(FactBase[str]):
    """'' when a command succeeds, else all that it said, or `exit CODE`."""

    def command(self, line: str) -> str:
        return f'out=$( ({line}) 2>&1 ) || echo "${{out:-exit $?}}"'

    @staticmethod
    def default() -> str:
        return ""


class Packages(FactBase[dict[str, str]]):
    """State of installed packages by name: manual or auto."""

    def command(self) -> str:
        return (
            "dpkg-query -W -f '${db:Status-Status} ${Package}\\n' | sed -n 's/^installed //p';"
            " apt-mark showmanual | sed 's/:.*//; s/^/manual /'"
        )

    def process(self, output: list[str]) -> dict[str, str]:
        manual = {line.removeprefix("manual ") for line in output if line.startswith("manual ")}
        return {line: "manual" if line in manual else "auto" for line in output if " " not in line}

    @staticmethod
    def default() -> dict[str, str]:
        return {}


def packages(name: str, wanted: Sequence[str]) -> None:
    """Install Debian packages without what they only recommend; refresh the lists only if one is missing."""
    _packages(name=name, wanted=list(wanted))


def put(name: str, src: str | IO[str], dest: str, *, mode: str = "644") -> None:
    """Bring a file of root's that is no secret; `src` is a path on this computer, or the text itself."""
    files.put(name=name, src=src, dest=dest, user="root", group="root", mode=mode)


def directory(name: str, path: str, *, owner: str = "root", mode: str = "755") -> None:
    """Make a directory of this user and the group of the same name."""
    files.directory(name=name, path=path, user=owner, group=owner, mode=mode)


def account(role: str, user: str, uid: int) -> None:
    """Make a user, and its group with the same number, that owns files and runs services: nobody can log in."""
    server.group(name=f"{role} | Make the group", group=user, gid=uid, system=True)
    server.user(
        name=f"{role} | Make the account",
        user=user,
        uid=uid,
        group=user,
        home="/nonexistent",
        ensure_home=False,
        shell="/usr/sbin/nologin",
        system=True,
    )


def service(name: str, unit: str, reads: Iterable[str] = (), *, reloads: bool = False) -> None:
    """Have the unit enabled, running, and started after these files last changed; see roles/base/files/service.py.

    With `reloads`, after these files it is reloaded rather than restarted.
    """
    ensure(name, [f"{LIBRARY}/service"], [*(["--reload"] if reloads else []), unit, *reads])


def ensure(name: str, program: Sequence[str], words: Iterable[str]) -> None:
    """Run a program that does what is not done yet; with --check before `words`, it only says whether there is any."""
    script(name, shlex.join([*program, *words]), check=shlex.join([*program, "--check", *words]))


def script(name: str, command: str, check: str) -> None:
    """Run a shell command unless `check` prints `unchanged`; both may fail, which fails the operation."""
    _script(name=name, line=command, check=check)


def prove(name: str, command: str) -> None:
    """Use what the role has set up: never a change, an error with the command's output if it fails."""
    _prove(name=name, line=command)


def secret(
    name: str, src: io.StringIO, dest: str, *, user: str = "root", group: str = "root", mode: str = "600"
) -> None:
    """As files.put, for what no one else may see: not on its way to `dest`, not in the output of --diff or -vvv."""
    _secret(name=name, text=src.getvalue(), dest=dest, user=user, group=group, mode=mode)


@operation()
def _packages(wanted: list[str]) -> Generator[str]:
    have = host.get_fact(Packages)
    missing = [package for package in wanted if package not in have]
    if missing:
        yield _UPDATE
        yield f"{_APT} install --no-install-recommends {shlex.join(missing)}"
    auto = [package for package in wanted if have.get(package) == "auto"]
    if auto:
        yield f"apt-mark manual {shlex.join(auto)}"


@operation()
def _script(line: str, check: str) -> Generator[str]:
    if host.get_fact(Output, line=check).strip() != _UNCHANGED:
        yield line


@operation()
def _prove(line: str) -> Generator[str]:
    if state.current_stage < StateStage.Execute:
        return
    failure = host.get_fact(Failure, line=line)
    if failure:
        yield f"echo {shlex.quote(failure)} >&2; exit 1"


@operation()
def _secret(text: str, dest: str, user: str, group: str, mode: str) -> Generator[StringCommand]:
    if _has(text, dest, user=user, group=group, mode=mode):
        return
    new = shlex.quote(f"{dest}.new")
    line = (
        f"umask 077 && base64 -d >{new} && chown {user}:{group} {new} && chmod {mode} {new}"
        f" && mv {new} {shlex.quote(dest)}"
    )
    yield StringCommand(line, _stdin=base64.b64encode(text.encode()).decode())


def _has(text: str, dest: str, *, user: str, group: str, mode: str) -> bool:
    there = host.get_fact(File, path=dest)
    if not there or (there["user"], there["group"], str(there["mode"])) != (user, group, mode.lstrip("0")):
        return False
    return bool(host.get_fact(Sha256File, path=dest) == _sha256(text))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
