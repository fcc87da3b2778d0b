"""The pictures of the README, taken anew: `SCREENSHOTS=docs/static pytest tests/browser/test_pictures.py`."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page

from . import world

README = Path(__file__).parents[2] / "README.md"
PLACES = {
    "home": "/",
    "job": f"/job?job_id={world.BIG}",
    "log": f"/log?job_id={world.FAILED}&task_id={world.HASH}.0&attempt=2&log=stderr",
    "trace": f"/trace?job_id={world.BIG}",
    "history": f"/test?project={world.PROJECT}&description={world.FLAKY_TEST}",
}


@pytest.mark.parametrize("name", PLACES)
def test_the_readme_shows_a_page(page: Page, screenshots: Path, name: str) -> None:
    page.set_viewport_size({"width": 1400, "height": 800})
    page.goto(PLACES[name])
    page.wait_for_load_state("networkidle")
    page.screenshot(path=screenshots / f"{name}.png")

    assert re.search(rf"!\[[^]]+\]\(docs/static/{name}\.png\)", README.read_text())
    assert (README.parent / "docs" / "static" / f"{name}.png").is_file()
