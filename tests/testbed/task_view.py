"""Runs as a task on a slave: prints a JSON object of what it got hold of and must not have; {} is well.

Its argument is a JSON object: `addresses` that it must not connect to, `slaves` of which it reaches its own, `commands`
that must fail, `files` and `processes` of another task, and `secrets`, each written backwards, so that the places where
this program lies do not count.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_SECRET_PLACES = ("/etc/dist_test", "/run/dist_test", "/run/credentials", "/root", "/home/ops/.ssh", "/var/log/journal")
_PTRACE_ATTACH = 16
_SECONDS = 3


def main(told: dict[str, list[str]]) -> dict[str, list[str]]:
    """What was reachable, by kind."""
    secrets = [secret[::-1] for secret in told["secrets"]]
    found = {
        "files": [path for root in _SECRET_PLACES for path in _secrets_below(Path(root), secrets)],
        "other task's files": [path for path in told["files"] if _can_see(Path(path))],
        "listings": [
            path for path in ("/var/lib/dist_test/work", "/var/cache/dist_test/blobs") if _can_list(Path(path))
        ],
        "processes": [name for pid in _others() for name in ("environ", "mem", "fd") if _can_open(pid / name)],
        "command lines": [str(pid) for pid in _others() if _mentions(pid / "cmdline", secrets)],
        "addresses": [address for address in told["addresses"] if _connects(address)],
        "slaves": _unless_one([address for address in told["slaves"] if _connects(address)]),
        "commands": [words for words in told["commands"] if _succeeds(words)],
        "traced": [pid for pid in told["processes"] if _can_trace(int(pid)) or _can_signal(int(pid))],
    }
    return {kind: names for kind, names in found.items() if names}


def _secrets_below(root: Path, secrets: Iterable[str]) -> list[str]:
    paths = [root, *(Path(top) / name for top, _, names in os.walk(root) for name in names)]
    return [str(path) for path in paths if path.is_file() and _mentions(path, secrets)]


def _mentions(path: Path, secrets: Iterable[str]) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return any(secret.encode() in content for secret in secrets)


def _can_see(path: Path) -> bool:
    """Whether it can be opened, or its directory listed. Each slot of a slave has one tree; ours may have that name."""
    return path.parent != Path.cwd() and (_can_open(path) or _can_list(path.parent))


def _can_open(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


def _can_list(path: Path) -> bool:
    try:
        list(path.iterdir())
    except OSError:
        return False
    return True


def _unless_one(reached: list[str]) -> list[str]:
    return [] if len(reached) == 1 else [*reached, f"{len(reached)} of them"]


def _others() -> list[Path]:
    """Processes of other users."""
    return [path for path in Path("/proc").glob("[0-9]*") if _owner(path) not in (os.getuid(), None)]


def _owner(process: Path) -> int | None:
    try:
        return process.stat().st_uid
    except OSError:
        return None  # it has ended


def _connects(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _SECONDS).close()
    except OSError:
        return False
    return True


def _succeeds(words: str) -> bool:
    try:
        done = subprocess.run(words, shell=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _can_trace(pid: int) -> bool:
    return bool(ctypes.CDLL(None).ptrace(_PTRACE_ATTACH, pid, 0, 0) == 0)


def _can_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))  # a task: its output is its answer
