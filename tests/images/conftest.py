"""The image of a slave: built once, and unpacked as the disk of a machine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from images.build import Image, blank_machine, build
from images.commands import run
from images.machine import why_not
from images.network import Network
from images.root_tree import RootTree

from ..farm import farm

__all__ = ["farm"]

BUILDING = Network(prefix="10.79.0")


@dataclass(frozen=True, kw_only=True)
class UnpackedTree(RootTree):
    """An image in place of what a cloud hands out."""

    path: Path

    def ensure(self) -> Path:
        return self.path


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """The image that IMAGE_ARCHIVE names, else one that is built now, by the tool that IMAGE_TOOL names."""
    if reason := why_not():
        pytest.skip(f"NO MACHINES, so no image of a slave is built or tried: {reason}")
    if archive := os.environ.get("IMAGE_ARCHIVE"):
        path = Path(archive)
        yield Image(archive=path, manifest=path.with_name(path.name.replace(".tar.zst", ".json")))
        return
    directory = Path(tempfile.mkdtemp(prefix="dist_test-image-", dir="/var/tmp"))
    try:
        yield build(blank_machine(directory, BUILDING), os.environ.get("IMAGE_TOOL", "pyinfra"), directory / "dist")
    finally:
        BUILDING.delete()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def tree(image: Image) -> Iterator[UnpackedTree]:
    """What is in the image. Not to be written to."""
    path = Path(tempfile.mkdtemp(prefix="dist_test-unpacked-", dir="/var/tmp"))
    path.chmod(0o755)
    run("tar", "--extract", f"--file={image.archive}", "--zstd", "--numeric-owner", "--xattrs", f"--directory={path}")
    yield UnpackedTree(path=path)
    shutil.rmtree(path)
