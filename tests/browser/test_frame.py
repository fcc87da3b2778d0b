"""What all pages have, and the page of the API, which has nothing else."""

import pytest
from playwright.sync_api import Page, expect

from .conftest import WIDTHS, OpenPage
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
def test_the_api_page_fits_and_is_fit_for_a_screen_reader(open_page: OpenPage, width: str, scheme: str) -> None:
    page = open_page(width, scheme)
    page.goto(API)

    refuse_scrolling_sideways(page)
    refuse_serious(page, width, scheme)


def test_the_api_page_is_there_at_once(page: Page) -> None:
    paint_at_once(page, API)
