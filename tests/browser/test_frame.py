"""What all pages have."""

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no annotations
from playwright.sync_api import Page

from . import world


def test_a_page_answers_and_is_fit_for_a_screen_reader(page: Page) -> None:
    for path in ("/", f"/job?job_id={world.FAILED}"):
        page.goto(path)
        results = Axe().run(page)
        serious = [v["id"] for v in results.response["violations"] if v["impact"] in ("serious", "critical")]
        assert serious == [], results.generate_report()
