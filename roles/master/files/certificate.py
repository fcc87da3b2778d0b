#!/usr/bin/python3
"""certificate [--check] DIRECTORY NAME...: keep a certificate there that is signed by nobody, for exactly these names.

A name may be an address. Makes certificate.pem and key.pem anew when they are not there, are for other names, were
signed by somebody, or end within 30 days. Says `unchanged`, or what changed.
"""

# ruff: noqa: T201  # a program: what it prints is its answer

import ipaddress
import os
import subprocess
import sys
from pathlib import Path

_DAYS = 3650  # clients trust the very file: each renewal has to be told to all of them
_SUBJECT = "/O=dist_test/CN=dist_test master"
_RENEWAL_SECONDS = 30 * 86400


def main(arguments: list[str]) -> int:
    is_check = arguments[:1] == ["--check"]
    directory, *names = arguments[1:] if is_check else arguments
    reason = _why_not(Path(directory), {_alternative(name) for name in names})
    if reason and not is_check:
        _make(Path(directory), names)
    print(f"changed: {reason}" if reason else "unchanged")
    return 0


def _why_not(directory: Path, wanted: set[str]) -> str | None:
    """Why the certificate cannot stay; None when it can."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    if not certificate.exists() or not key.exists():
        return "there was no certificate"
    # A heading, then the names in one line; nothing at all when there are no names.
    found = "".join(_openssl("x509", "-in", certificate, "-noout", "-ext", "subjectAltName").splitlines()[1:]).strip()
    if set(found.split(", ")) != {_shown(name) for name in wanted}:
        return f"the certificate was for {found or 'no name'}"
    issuer, subject = _openssl("x509", "-in", certificate, "-noout", "-issuer", "-subject").splitlines()
    if issuer.partition("=")[2] != subject.partition("=")[2]:
        return "the certificate was signed by somebody"
    if _openssl("x509", "-in", certificate, "-noout", "-pubkey") != _openssl("pkey", "-in", key, "-pubout"):
        return "the key was another certificate's"
    return "the certificate was about to end" if _ends_soon(certificate) else None


def _make(directory: Path, names: list[str]) -> None:
    """Aside and renamed, the key first: what a crash leaves between the two is made anew."""
    os.umask(0o077)
    new_certificate, new_key = directory / "certificate.new", directory / "key.new"
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
        *(
            "-keyout",
            new_key,
            "-out",
            new_certificate,
            "-days",
            str(_DAYS),
            "-subj",
            "/O=dist_test/CN=dist_test master",
        ),
        *("-addext", f"subjectAltName={','.join(sorted(_alternative(name) for name in names))}"),
        # Trusted by its file, it vouches for no other.
        *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"),
    )
    new_certificate.chmod(0o644)
    new_key.rename(directory / "key.pem")
    new_certificate.rename(directory / "certificate.pem")


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name.lower()}"


def _shown(alternative: str) -> str:
    """The alternative name as openssl prints it."""
    return alternative.replace("IP:", "IP Address:", 1) if alternative.startswith("IP:") else alternative


def _ends_soon(certificate: Path) -> bool:
    command = ["openssl", "x509", "-in", str(certificate), "-noout", "-checkend", str(_RENEWAL_SECONDS)]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0


def _openssl(*arguments: str | Path) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"openssl {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
