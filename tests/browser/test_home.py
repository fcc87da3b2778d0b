"""The first page, as people use it."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ..services.master.conftest import Master
from . import world
from .conftest import WIDTHS
from .looks import paint_at_once, refuse_scrolling_sideways, refuse_serious, texts

PAGES = {
    "home": "/",
    "home-search": "/?q=nightly&state=failed",
    "home-nothing": "/?q=no-such-job",
    "slave": "/slave?slave_id=slave-0",
    "slave-sick": "/slave?slave_id=slave-sick",
    "slave-unknown": "/slave?slave_id=slave-99",
    "not-found": "/nonsense",
    "bad-parameter": "/?state=odd",
}
# What the page itself answers: the browser's console says so, too.
FAILING = ("slave-unknown", "not-found", "bad-parameter")


def jobs(page: Page) -> list[str]:
    """The ids of the jobs that are listed."""
    return texts(page, "#jobs tbody th a")


@pytest.fixture
def any_page(browser: Browser, master: Master) -> Page:
    """A page whose console may have errors: the browser notes every answer that is none of 200."""
    return browser.new_context(base_url=master.url).new_page()


def test_the_figures_say_what_waits_runs_and_when_it_is_done(page: Page) -> None:
    page.goto("/")

    figures = page.locator(".figures").inner_text()
    assert re.search(r"4,936\s+waiting", figures)
    assert re.search(r"64\s+running", figures)
    assert re.search(r"65 of 88\s+slots in use", figures)
    # 5000 tasks of 4 s on 88 slots.
    assert re.search(r"\d+ (s|min)\s+until all is done", figures)
    expect(page.get_by_text("Queue length: 4936, Running: 64, Idle slaves: 1")).to_be_visible()


def test_each_slave_unfolds_to_what_it_runs(page: Page) -> None:
    page.goto("/")
    row = page.locator("#slave-slave-0")

    row.locator("summary").click()

    assert row.locator(".runs li").count() == 8
    test = row.locator(".runs li").first
    expect(test).to_contain_text("org.example.module")
    expect(test.locator("time")).to_have_text(re.compile(r"\d+ (s|min)"))
    test.get_by_role("link", name=world.BIG).click()
    expect(page).to_have_url(re.compile(r"/job\?job_id=big"))


def test_slaves_in_trouble_come_first_with_their_message(page: Page) -> None:
    page.goto("/")
    rows = page.locator("#slaves > .scroll tbody")

    expect(rows.nth(0)).to_contain_text("no space left on device")
    expect(rows.nth(0).locator(".chip")).to_have_text("quarantined")
    expect(rows.nth(1).locator(".chip")).to_have_text("draining")


def test_gone_slaves_are_folded_away(page: Page) -> None:
    page.goto("/")
    gone = page.get_by_text("slave-gone")

    expect(gone).to_be_hidden()
    page.get_by_text("1 gone in the last day").click()

    expect(gone).to_be_visible()


def test_the_search_box_of_every_page_finds_jobs(page: Page) -> None:
    page.goto(f"/job?job_id={world.FAILED}")

    page.get_by_label("Search jobs").fill("KUDU")
    page.get_by_label("Search jobs").press("Enter")

    expect(page.get_by_role("link", name=world.CANCELED)).to_be_visible()
    assert jobs(page) == [world.CANCELED]
    expect(page.get_by_label("Anything")).to_have_value("KUDU")


def test_fields_and_states_narrow_the_list_together(page: Page) -> None:
    page.goto("/")

    page.get_by_label("Owner", exact=True).fill("ann")
    page.get_by_role("button", name="Search jobs").click()
    page.get_by_label("Jobs by state").get_by_role("link", name="failed").click()

    expect(page.get_by_label("Jobs by state").locator("[aria-current]")).to_have_text("failed")
    expect(page.get_by_label("Owner", exact=True)).to_have_value("ann")
    assert world.FAILED in jobs(page)
    assert set(texts(page, "#jobs tbody .chip")) == {"failed"}
    owners = texts(page, "#jobs tbody td:nth-child(6)")
    assert set(owners) == {"ann"}


def test_an_owner_is_a_link_to_their_jobs(page: Page) -> None:
    page.goto("/")

    page.locator("#jobs").get_by_role("link", name="cat", exact=True).first.click()

    assert world.BIG in jobs(page)
    assert set(texts(page, "#jobs tbody td:nth-child(6)")) == {"cat"}


def test_all_history_is_paged_there_and_back(page: Page) -> None:
    page.goto("/?q=nightly")
    newest = jobs(page)

    page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="Newer").wait_for()
    second = jobs(page)
    page.get_by_role("link", name="Older").click()
    page.wait_for_function("first => document.querySelector('#jobs tbody th a').textContent !== first", arg=second[0])
    third = jobs(page)
    assert len({*newest, *second, *third}) == world.HISTORY_JOBS + 1
    expect(page.get_by_role("link", name="Older")).to_have_count(0)

    page.get_by_role("link", name="Newer").click()
    page.wait_for_function("first => document.querySelector('#jobs tbody th a').textContent === first", arg=second[0])
    assert jobs(page) == second
    page.get_by_role("link", name="Newest").click()
    page.wait_for_function("first => document.querySelector('#jobs tbody th a').textContent === first", arg=newest[0])
    expect(page.get_by_role("link", name="Newer")).to_have_count(0)


def test_it_stays_fresh_and_unfolded_without_being_loaded_anew(page: Page) -> None:
    page.goto("/")
    page.evaluate("window.isSame = true")
    row = page.locator("#slave-slave-1")
    row.locator("summary").click()
    since = row.locator(".runs time").first
    before = since.inner_text()

    page.wait_for_function(
        "text => document.querySelector('#slave-slave-1 .runs time').textContent !== text", arg=before, timeout=75_000
    )

    assert page.evaluate("window.isSame")
    expect(row.locator("details")).to_have_attribute("open", "")


def test_it_works_without_scripts(browser: Browser, master: Master) -> None:
    context = browser.new_context(base_url=master.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")

    page.locator("#slave-slave-2 summary").click()
    expect(page.locator("#slave-slave-2 .runs li")).to_have_count(8)
    page.get_by_label("Project", exact=True).fill("kudu")
    page.get_by_role("button", name="Search jobs").click()

    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    context.close()


def test_markup_of_users_is_shown_as_text(page: Page) -> None:
    page.goto("/?owner=" + world.MARKUP)

    assert jobs(page) == [world.EVIL]
    expect(page.get_by_label("Owner", exact=True)).to_have_value(world.MARKUP)


@pytest.mark.parametrize("path", ["/", "/?q=nightly", "/slave?slave_id=slave-0"])
def test_the_first_paint_takes_less_than_a_second(page: Page, path: str) -> None:
    paint_at_once(page, path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_it_is_fit_for_screen_readers_phones_and_the_eye(
    browser: Browser, master: Master, screenshots: Path, name: str, scheme: str
) -> None:
    context = browser.new_context(base_url=master.url, color_scheme="dark" if scheme == "dark" else "light")
    page = context.new_page()
    for width_name, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(PAGES[name])
        refuse_scrolling_sideways(page)
        if name == "home":
            page.locator("#slave-slave-0 summary").click()
            page.locator("#gone > summary").click()
        page.screenshot(path=screenshots / f"{name}-{width_name}-{scheme}.png", full_page=True)
        refuse_serious(page, width_name, scheme)
    context.close()


@pytest.mark.parametrize("name", FAILING)
def test_what_cannot_be_shown_says_so_and_leads_on(any_page: Page, name: str) -> None:
    any_page.goto(PAGES[name])

    expect(any_page.locator(".notice")).not_to_be_empty()
    any_page.get_by_role("link", name="To the cluster").click()

    expect(any_page.get_by_role("heading", name="Cluster")).to_be_visible()
    any_page.context.close()
