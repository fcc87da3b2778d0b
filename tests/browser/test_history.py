"""The pages of a project's tests, as people use them."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from ..services.master.conftest import Master
from . import world
from .conftest import WIDTHS, OpenPage
from .looks import paint_at_once, refuse_scrolling_sideways, refuse_serious, texts

HISTORY = f"/test?project={world.PROJECT}&description={world.FLAKY_TEST}"
MARKUP = quote(world.MARKUP)
PAGES = {
    "projects": "/tests",
    "tests": f"/tests?project={world.PROJECT}",
    "tests-failures": f"/tests?project={world.PROJECT}&sort=failures",
    "tests-nothing": f"/tests?project={world.PROJECT}&q=no-such-test",
    "tests-markup": f"/tests?project={MARKUP}",
    "history": HISTORY,
    "history-nothing": "/test?project=no&description=none",
    "history-markup": f"/test?project={MARKUP}&description={MARKUP}",
    "flaky": f"/flaky?project={world.PROJECT}",
    "flaky-nothing": "/flaky?project=kudu",
}
# Those that look at the job of 100,000 attempts.
BIG_PAGES = {
    "trace": f"/trace?job_id={world.BIG}",
    "projects": "/tests",
    "tests": "/tests?project=hadoop",
    "tests by failures": "/tests?project=hadoop&sort=failures",
    "slowest tests": "/tests?project=hadoop&sort=slowest",
    "a test": "/test?project=hadoop&description=org.example.module1.Test1",
    "flaky tests": "/flaky?project=hadoop",
}
# Where a dot is in the page: the tenth of an outcome that has no other above or below it.
DOT = """(outcome) => {
  const { chart, dots } = document.getElementById("durations").plot;
  const isAlone = (one) => dots.every((other) => other === one || Math.abs(other[0] - one[0]) > 3600);
  const dot = dots.filter((one) => one[2] === outcome && isAlone(one)).at(9);
  const frame = chart.over.getBoundingClientRect();
  return [frame.left + chart.valToPos(dot[0], "x"), frame.top + chart.valToPos(dot[1], "y")];
}"""


def test_a_test_is_found_from_the_head_of_every_page(page: Page) -> None:
    page.goto("/")

    page.get_by_role("link", name="Tests", exact=True).click()
    page.get_by_role("link", name=world.PROJECT, exact=True).click()
    page.get_by_label("Name", exact=True).fill("lease")
    page.get_by_label("Name", exact=True).press("Enter")
    page.get_by_role("link", name=world.FLAKY_TEST).click()

    expect(page.get_by_role("heading", level=1)).to_have_text(world.FLAKY_TEST)


def test_a_test_of_a_job_leads_to_its_history(page: Page) -> None:
    page.goto(f"/job?job_id={world.FAILED}")

    page.get_by_text(world.FLAKY_TEST).first.click()
    page.get_by_role("link", name="History of the test").first.click()

    expect(page).to_have_url(re.compile(r"/test\?project=hdfs&description=org\.example\.hdfs\.TestLeaseRecovery"))


def test_tests_are_listed_with_how_they_do(page: Page) -> None:
    page.goto(f"/tests?project={world.PROJECT}")

    row = page.get_by_role("row", name=re.compile(re.escape(world.FAILING_TEST)))
    expect(row).to_contain_text(re.compile(r"\d+\.\d %"))
    expect(row.get_by_role("link").last).to_have_attribute("href", re.compile(r"/task\?.*log=stderr#log-view"))


def test_the_order_of_tests_can_be_chosen(page: Page) -> None:
    page.goto(f"/tests?project={world.PROJECT}")

    page.get_by_label("Order").select_option(label="those that failed, most often first")
    page.get_by_role("button", name="Show").click()

    first = page.locator("tbody th a").first
    expect(first).to_have_text(re.compile("TestLeaseRecovery|TestAppend"))
    assert page.locator("tbody tr").count() == 3


def test_pages_of_many_tests_follow_one_another(page: Page) -> None:
    page.goto("/tests?project=hadoop")
    first = texts(page, "tbody th a")

    page.get_by_role("link", name="Next").click()
    second = texts(page, "tbody th a")
    page.get_by_role("link", name="Previous").click()

    assert len(first) == len(second) == 50
    assert first[-1] < second[0]
    assert texts(page, "tbody th a") == first


def test_the_history_of_a_flaky_test_has_figures_and_failures(page: Page) -> None:
    page.goto(HISTORY)

    figures = page.locator(".figures").inner_text()
    assert re.search(r"\d+\s+runs in 30 days", figures)
    assert re.search(r"8\d\.\d %\s+passed", figures)
    assert re.search(r"[1-9]\d*\s+flaky", figures)
    expect(page.locator(".failures li")).to_have_count(5)
    page.locator(".failures a").first.click()
    expect(page).to_have_url(re.compile(r"/task\?.*log=stderr#log-view"))


def test_runs_are_filtered_and_the_days_chosen(page: Page) -> None:
    page.goto(HISTORY)

    page.get_by_label("Outcome").select_option(label="flaky")
    page.get_by_label("Days").select_option("7")
    page.get_by_role("button", name="Show").click()

    rows = page.locator(".scroll tbody tr")
    assert 2 <= rows.count() <= 8
    assert all("flaky" in row for row in rows.all_inner_texts())


def test_a_dot_of_the_plot_opens_its_log(page: Page) -> None:
    page.goto(HISTORY)
    page.locator("#durations").scroll_into_view_if_needed()
    x, y = page.evaluate(DOT, "succeeded")

    page.mouse.move(x, y)
    expect(page.locator("#durations .u-legend")).to_contain_text(re.compile(r"succeeded[ :]*2\d s"))
    page.mouse.click(x, y)

    expect(page).to_have_url(re.compile(r"/task\?.*log=stderr#log-view"))


def test_the_plot_can_be_logarithmic_and_a_range_be_chosen(page: Page) -> None:
    page.goto(HISTORY)
    page.locator("#durations").scroll_into_view_if_needed()
    button = page.get_by_role("button", name="Logarithmic")
    whole = page.evaluate("document.getElementById('durations').plot.chart.scales.x")
    box = page.locator("#durations .u-over").bounding_box()
    assert box is not None

    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.getElementById('durations').plot.chart.scales.y.distr") == 3
    page.mouse.move(box["x"] + 100, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 20, steps=4)
    page.mouse.up()
    near = page.evaluate("document.getElementById('durations').plot.chart.scales.x")

    assert near["max"] - near["min"] < (whole["max"] - whole["min"]) / 2
    expect(page).to_have_url(re.compile(r"/test\?"))


def test_flaky_tests_are_ranked_with_their_last_flakes(page: Page) -> None:
    page.goto(f"/flaky?project={world.PROJECT}")

    row = page.get_by_role("row", name=re.compile(re.escape(world.FLAKY_TEST)))
    expect(row).to_contain_text(re.compile(r"\d+ of \d+"))
    expect(row.locator("svg rect").first).to_be_attached()
    expect(row.locator(".results a")).to_have_count(3)
    page.get_by_label("Order").select_option(label="the costliest first")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("sort=cost"))


def test_without_a_script_the_history_is_a_table(browser: Browser, master: Master) -> None:
    context = browser.new_context(base_url=master.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(HISTORY)

    expect(page.locator("#durations")).to_be_hidden()
    assert page.locator(".scroll tbody tr").count() == 100
    context.close()


@pytest.mark.parametrize("path", BIG_PAGES.values(), ids=list(BIG_PAGES))
def test_the_first_paint_is_quick_beside_a_hundred_thousand_attempts(page: Page, path: str) -> None:
    paint_at_once(page, path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_pages_fit_and_are_fit_for_a_screen_reader(
    open_page: OpenPage, screenshots: Path, width: str, scheme: str
) -> None:
    page = open_page(width, scheme)
    for name, path in PAGES.items():
        page.goto(path)
        page.screenshot(path=screenshots / f"{name}-{width}-{scheme}.png")

        refuse_scrolling_sideways(page)
        refuse_serious(page, width, scheme)
