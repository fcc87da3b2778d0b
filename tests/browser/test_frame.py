"""What all pages have, and the page of the API, which has nothing else."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from ..services.master.conftest import Master
from .conftest import WIDTHS
from .looks import paint_at_once, refuse_scrolling_sideways, refuse_serious

API = "/api/v1/"


def test_the_keyboard_reaches_the_content_at_once(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")

    expect(page.get_by_role("link", name="To the content")).to_be_focused()


def test_the_search_of_any_page_finds_jobs(page: Page) -> None:
    page.goto(API)
    page.get_by_label("Search jobs").fill("nightly.failed")
    page.get_by_label("Search jobs").press("Enter")

    expect(page.locator("#jobs tbody tr")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_api_page_fits_and_is_fit_for_a_screen_reader(
    browser: Browser, master: Master, width: str, scheme: Any
) -> None:
    viewport: Any = {"width": WIDTHS[width], "height": 900}
    context = browser.new_context(base_url=master.url, viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    page.goto(API)

    refuse_scrolling_sideways(page)
    refuse_serious(page, width, scheme)
    context.close()


def test_the_api_page_is_there_at_once(page: Page) -> None:
    paint_at_once(page, API)
