"""Copies of installed packages that every user can read: a checkout below /root is not."""

import shutil
from importlib.metadata import distribution
from pathlib import Path

import dist_test


def copy_packages(directory: Path, *distributions: str) -> None:
    """Copy dist_test, and what these distributions have installed, into a directory for PYTHONPATH."""
    directory.chmod(0o755)
    shutil.copytree(
        Path(dist_test.__file__).parent, directory / "dist_test", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in distributions:
        for file in distribution(name).files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = directory / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
