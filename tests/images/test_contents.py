"""What is in the image of a slave, and what must not be."""

import configparser
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dist_test.settings.catalog import CATALOG
from images.build import Image

from .conftest import UnpackedTree

pytestmark = pytest.mark.full

OF_ONE_HOST = (
    "etc/ssh/ssh_host_*",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "etc/systemd/network/*.network",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/log/journal/*",
    "run/dist_test/*",
)
OF_ITS_BUILDERS = (
    "root/.ssh/*",
    "home/*/.ssh/*",
    "home/*/.ansible",
    "root/.ansible",
    "etc/pip.conf",
    "etc/apt/apt.conf.d/*mmdebstrap*",
    "usr/local/share/ca-certificates/*",
)
LEFT_OVER = ("var/lib/apt/lists/*", "var/cache/apt/archives/*.deb", "var/cache/apt/*.bin", "tmp/*", "var/tmp/*")
# Programs know what the first line of a key looks like, and libraries bring keys for their own tests.
_INSTALLED = ("usr/bin", "usr/sbin", "usr/lib", "usr/share", "opt/dist_test/releases")
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")


@pytest.mark.parametrize("pattern", [*OF_ONE_HOST, *OF_ITS_BUILDERS, *LEFT_OVER])
def test_nothing_of_the_host_that_it_was_made_from_is_left(tree: UnpackedTree, pattern: str) -> None:
    assert [str(path) for path in tree.path.glob(pattern)] == []


def test_each_host_makes_a_machine_id_of_its_own(tree: UnpackedTree) -> None:
    # Absent, it would be taken for the first boot ever, which presets the units anew.
    assert (tree.path / "etc/machine-id").read_bytes() == b""


def test_no_file_holds_a_private_key(tree: UnpackedTree) -> None:
    assert [str(path) for path in _files(tree.path) if _PRIVATE_KEY.search(path.read_bytes())] == []


def test_no_account_has_a_password(tree: UnpackedTree) -> None:
    lines = (tree.path / "etc/shadow").read_text().splitlines()
    assert [line for line in lines if line.split(":")[1] not in ("*", "!", "!*")] == []


def test_its_settings_name_no_server_and_hold_no_secret(tree: UnpackedTree) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    assert settings.read(tree.path / "etc/dist_test/slave.cnf")
    names = [setting for setting in CATALOG if setting.secret or setting.key in ("host", "master", "server", "user")]
    assert [setting.name for setting in names if settings.get(setting.section, setting.key, fallback="")] == []


def test_units_are_enabled_that_make_it_a_slave(tree: UnpackedTree) -> None:
    wanted = {path.name for path in (tree.path / "etc/systemd/system").glob("*.wants/*")}
    assert wanted >= {
        "dist-test-slave.service",
        "dist-test-task-firewall.service",
        "dist-test-firewall.service",
        "dist-test-host-keys.service",
    }


def test_the_manifest_says_what_is_in_it(image: Image, tree: UnpackedTree) -> None:
    manifest = json.loads(image.manifest.read_text())
    assert manifest["sha256"] == hashlib.sha256(image.archive.read_bytes()).hexdigest()
    assert manifest["files"] == sum(1 for _ in _files(tree.path, without=()))
    assert (tree.path / "opt/dist_test/current").readlink().name == manifest["release"]
    assert {"systemd", "nftables"} <= manifest["debian"].keys()
    assert {"dist-test", "greenstalk", "boto3"} <= manifest["python"].keys()


def _files(tree: Path, without: tuple[str, ...] = _INSTALLED) -> Iterator[Path]:
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink() and not any(path.is_relative_to(tree / top) for top in without):
            yield path
