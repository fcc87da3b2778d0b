"""What docs/tutorial.md tells people to type does what the tutorial says."""

from pathlib import Path

from ..readable import copy_packages
from .test_readme import ROOT, check, checkout, run, script, steps

__all__ = ["checkout"]

INSTALL = "python3 -m pip install --quiet --no-compile --target deps pytest\n"
PYTEST = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")


def test_the_tutorial_does_what_it_says(checkout: Path) -> None:
    blocks = steps((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    assert INSTALL in [step.commands for step in blocks]
    # No network: what pip would fetch is installed here already.
    packages = checkout / "packages"
    packages.mkdir()
    copy_packages(packages, *PYTEST)

    ran = run(script(blocks).replace(INSTALL, f"cp -r {packages} deps\n"), checkout)

    check(ran, blocks, checkout)
