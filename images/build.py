"""Build the image of a slave on this computer: python -m images.build [--tool pyinfra|ansible]

Boots the tree that a cloud would hand out, deploys to it over SSH as to any host, takes away what is its own, and packs
it: dist/dist_test-slave-RELEASE.tar.zst, and a manifest beside it. Prints both paths.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from images.commands import MachineError, run
from images.machine import Machine, make_key, why_not
from images.network import Network
from images.root_tree import RootTree

ROOT = Path(__file__).resolve().parent.parent
TOOLS: Mapping[str, Sequence[str]] = {
    "pyinfra": ("pyinfra", "-y", "images/inventory.py", "deploy.py"),
    "ansible": ("ansible-playbook", "-i", "images/inventory/hosts.yml", "playbooks/image.yml"),
}
# What Machine writes onto a fresh disk, and how this computer reaches its registries, which may be nobody's business.
_OF_THIS_COMPUTER = (
    "etc/hosts",
    "etc/resolv.conf",
    "etc/systemd/network/10-host0.network",
    "etc/pip.conf",
    "etc/apt/apt.conf.d/99mmdebstrap",
)
_PACKAGES = "dpkg-query --show --showformat '${Package} ${Version}\\n'"
_PYTHON_PACKAGES = "/opt/dist_test/current/bin/python -m pip list --format freeze --disable-pip-version-check"


@dataclass(frozen=True, kw_only=True)
class Image:
    """`archive` is a root tree, `manifest` a JSON object that says what is in it."""

    archive: Path
    manifest: Path


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m images.build", description="Build the image of a slave.")
    parser.add_argument("--tool", choices=TOOLS, default="pyinfra", help="what deploys (default: %(default)s)")
    parser.add_argument("--network", metavar="PREFIX", default="10.79.0", help="a /24 that is free (default: 10.79.0)")
    options = parser.parse_args(arguments)
    if reason := why_not():
        sys.exit(f"images: {reason}")
    network = Network(prefix=options.network)
    directory = Path(tempfile.mkdtemp(prefix="dist_test-image-", dir="/var/tmp"))  # not /tmp: it is often in memory
    try:
        image = build(blank_machine(directory, network), options.tool, ROOT / "dist")
        sys.stdout.write(f"{image.archive}\n{image.manifest}\n")
    except MachineError as exc:
        sys.exit(f"images: {exc}")
    finally:
        network.delete()
        shutil.rmtree(directory, ignore_errors=True)


def blank_machine(directory: Path, network: Network) -> Machine:
    """A machine to make an image from, not started yet. `directory` will hold all that belongs to it."""
    return Machine(
        name="image",
        address=network.subnet[9],
        directory=directory / "machine",
        network=network,
        tree=RootTree(),
        key=directory / "key",
    )


def build(machine: Machine, tool: str, target: Path) -> Image:
    """Turn the machine into an image in the directory `target`; the machine is gone afterwards. Raises MachineError."""
    make_key(machine.key)
    machine.network.ensure()
    try:
        machine.start()
        machine.wait_for_ssh()
        _deploy(machine, tool)
        release = Path(machine.ssh("readlink /opt/dist_test/current").strip()).name
        contents = _contents(machine)
        run(*machine.ssh_command(["sudo sh -s"]), text=(ROOT / "images/generalise.sh").read_text())
        # Not a shutdown, which would write into the logs; generalise.sh ends with a sync.
        machine.power_off()
        _forget_this_computer(machine.root)
        return _pack(machine.root, target, release, contents)
    finally:
        machine.delete()


def _deploy(machine: Machine, tool: str) -> None:
    program, *arguments = TOOLS[tool]
    environment = os.environ | {
        "IMAGE_ADDRESS": str(machine.address),
        "IMAGE_KEY": str(machine.key),
        "IMAGE_KNOWN_HOSTS": str(machine.directory / "known_hosts"),
    }
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise MachineError(f"{program} ended with exit status {done.returncode}; its own words are above")


def _contents(machine: Machine) -> dict[str, object]:
    return {
        "debian": dict(_pairs(machine.ssh(_PACKAGES), " ")),
        "python": dict(_pairs(machine.ssh(_PYTHON_PACKAGES), "==")),
    }


def _pairs(text: str, separator: str) -> list[tuple[str, str]]:
    parts = [line.partition(separator) for line in text.splitlines()]
    return [(name, version) for name, _, version in parts if version]


def _forget_this_computer(root: Path) -> None:
    for name in _OF_THIS_COMPUTER:
        (root / name).unlink(missing_ok=True)
    for certificate in (root / "usr/local/share/ca-certificates").glob("*.crt"):
        certificate.unlink()
    run("chroot", root, "update-ca-certificates", "--fresh")
    # Written between generalise.sh and the end.
    for path in (root / "var/log/journal").glob("*"):
        shutil.rmtree(path)


def _pack(root: Path, target: Path, release: str, contents: Mapping[str, object]) -> Image:
    target.mkdir(exist_ok=True)
    archive = target / f"dist_test-slave-{release}.tar.zst"
    with tempfile.TemporaryDirectory(prefix=".image-", dir=target) as directory:
        new = Path(directory) / archive.name
        # Capabilities of files are extended attributes; names of users may differ where it is unpacked.
        options = ["--zstd", "--numeric-owner", "--xattrs", "--xattrs-include=security.capability", "--sort=name"]
        run("tar", "--create", f"--file={new}", *options, f"--directory={root}", ".")
        new.replace(archive)
    manifest = archive.with_name(f"dist_test-slave-{release}.json")
    with archive.open("rb") as packed:
        digest = hashlib.file_digest(packed, "sha256").hexdigest()
    description = {
        "release": release,
        "archive": archive.name,
        "sha256": digest,
        "size_bytes": archive.stat().st_size,
        "files": sum(1 for path in root.rglob("*") if path.is_file() and not path.is_symlink()),
        **contents,
    }
    manifest.write_text(json.dumps(description, indent=1) + "\n")
    return Image(archive=archive, manifest=manifest)


if __name__ == "__main__":
    main(sys.argv[1:])
