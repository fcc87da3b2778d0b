"""What this machine needs to reach Debian's and Python's registries, to be handed on to machines that run on it."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_APT_CONFIGURATION = Path("/etc/apt/apt.conf.d")
_ALL_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# How to reach a mirror. All else in there is about what this machine does with packages, which is its own affair.
_REACHES_A_MIRROR = re.compile(r"^\s*Acquire::(https?|Check|Retries|ForceIP)", re.MULTILINE)
_PLACES = frozenset(("index-url", "extra-index-url", "find-links"))
_PIP_OPTIONS = _PLACES | {"trusted-host", "proxy", "cert", "default-timeout", "timeout"}


@dataclass(frozen=True, kw_only=True)
class RegistryAccess:
    """Certificates by file name, and the texts of an apt.conf and of a pip.conf; '' for none."""

    certificates: dict[str, str]
    apt: str
    pip: str

    @classmethod
    def of_this_machine(cls) -> "RegistryAccess":
        return cls(
            certificates={path.name: path.read_text() for path in sorted(_CERTIFICATES.glob("*.crt"))},
            apt="".join(text for text in _apt_texts() if _REACHES_A_MIRROR.search(text)),
            pip=_pip_configuration(_pip_options()),
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
            options[option] = _of_the_network(option, ast.literal_eval(quoted))
    return {option: value for option, value in options.items() if value}


def _of_the_network(option: str, value: str) -> str:
    """Without the places on this machine's own disk, which others do not see."""
    if option not in _PLACES:
        return value
    return " ".join(place for place in value.split() if place.startswith(("http://", "https://")))


def _pip_configuration(options: dict[str, str]) -> str:
    if not options:
        return ""
    # The path of this machine's bundle may be its own invention; in a Debian tree there is one place for it.
    options = options | ({"cert": _ALL_CERTIFICATES} if "cert" in options else {})
    lines = [f"{option} = {' '.join(value.split())}\n" for option, value in sorted(options.items())]
    return "[global]\n" + "".join(lines)
