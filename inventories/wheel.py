"""Build the wheel of this checkout when it is missing or older than the sources: python -m inventories.wheel

Prints its path. The same sources give the same bytes, so that building again changes no host.
"""

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inventories.cluster import ROOT

_TOP_FILES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE")


class WheelError(Exception):
    """The wheel cannot be built; the message ends with what the build said last."""


def path() -> Path:
    """Where the wheel of this checkout belongs; playbooks/group_vars/all.yml has the same as base_wheel."""
    return ROOT / "dist" / f"dist_test-{_project()['project']['version']}-py3-none-any.whl"


def _project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def is_current() -> bool:
    return path().is_file() and path().stat().st_mtime >= max(source.stat().st_mtime for source in sources())


def sources() -> Iterator[Path]:
    yield from (ROOT / name for name in _TOP_FILES)
    for package in _project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        # Directories too: their time tells of a file that was removed.
        yield from (source for source in (ROOT / package).rglob("*") if _is_packed(source))


def _is_packed(source: Path) -> bool:
    return "__pycache__" not in source.parts


def ensure() -> None:
    """Raises WheelError."""
    if not is_current():
        build()


def build() -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(path().parent)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise WheelError(f"the wheel cannot be built ({' '.join(command[1:])}): {' '.join(last)}")
    path().touch()


def main() -> int:
    try:
        ensure()
    except WheelError as exc:
        sys.stderr.write(f"inventories: {exc}\n")
        return 1
    sys.stdout.write(f"{path()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
