"""What this machine needs to reach Debian's and Python's registries, to be handed on to machines that run on it."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_APT_CONFIGURATION = Path("/etc/apt/apt.conf.d")
_ALL_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# How to reach a mirror. All else in there is about what this machine does with packages, which is its own affair.
_REACHES_A_MIRROR = re.compile(r"^\s*Acquire::(https?|Check|Retries|ForceIP)", re.MULTILINE)
_PIP_OPTIONS = frozenset(
    ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "cert", "default-timeout", "timeout")
)


@dataclass(frozen=True, kw_only=True)
class RegistryAccess:
    """Certificates by file name, the text of an apt.conf and of a pip.conf ('' for none), and the directories that
    pip.conf names: indices on this machine's own disk."""

    certificates: dict[str, str]
    apt: str
    pip: str
    directories: tuple[Path, ...]

    @classmethod
    def of_this_machine(cls) -> "RegistryAccess":
        options = _pip_options()
        return cls(
            certificates={path.name: path.read_text() for path in sorted(_CERTIFICATES.glob("*.crt"))},
            apt="".join(text for text in _apt_texts() if _REACHES_A_MIRROR.search(text)),
            pip=_pip_configuration(options),
            directories=_directories(options),
        )


def _apt_texts() -> list[str]:
    return [path.read_text() for path in sorted(_APT_CONFIGURATION.glob("*")) if path.is_file()]


def _pip_options() -> dict[str, str]:
    """What files and environment tell pip about its registries, by option."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    options: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, quoted = line.partition("=")
        option = name.rpartition(".")[2]
        if option in _PIP_OPTIONS:
            options[option] = str(ast.literal_eval(quoted))
    return options


def _pip_configuration(options: dict[str, str]) -> str:
    if not options:
        return ""
    # The path of this machine's bundle may be its own invention; in a Debian tree there is one place for it.
    options = options | ({"cert": _ALL_CERTIFICATES} if "cert" in options else {})
    lines = [f"{option} = {' '.join(value.split())}\n" for option, value in sorted(options.items())]
    return "[global]\n" + "".join(lines)


def _directories(options: dict[str, str]) -> tuple[Path, ...]:
    places = " ".join(options.get(option, "") for option in ("index-url", "extra-index-url", "find-links")).split()
    paths = {Path(urlsplit(place).path) for place in places if urlsplit(place).scheme in ("", "file")}
    return tuple(sorted(path for path in paths if path.is_dir()))
