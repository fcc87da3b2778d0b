"""What is asked of every page: it fits its window, a screen reader can read it, and it is there at once."""

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no annotations
from playwright.sync_api import Page

FIRST_PAINT_MS = 1000.0  # also of a job of 100,000 attempts
_PAINTED_AT = """
    () => new Promise((resolve) => new PerformanceObserver((list) => {
        for (const entry of list.getEntriesByName("first-contentful-paint")) resolve(entry.startTime);
    }).observe({ type: "paint", buffered: true }))
"""


# A phone in light and a desktop in dark colours: every layout and colour once, in a third of the time of all six.
READ = {("phone", "light"), ("desktop", "dark")}


def refuse_serious(page: Page, width: str, scheme: str) -> None:
    """Have axe-core find nothing serious, at the widths and in the schemes of READ."""
    if (width, scheme) not in READ:
        return
    results = Axe().run(page)
    serious = [found["id"] for found in results.response["violations"] if found["impact"] in ("serious", "critical")]
    assert serious == [], f"{page.url}: {results.generate_report()}"


def refuse_scrolling_sideways(page: Page) -> None:
    """Have the page be no wider than its window."""
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, page.url


def texts(page: Page, selector: str) -> list[str]:
    """The texts of all such elements, once the page is whole: a click only waits for the new page to begin."""
    page.wait_for_load_state()
    return page.locator(selector).all_inner_texts()


def paint_at_once(page: Page, path: str) -> None:
    """Have the first paint within FIRST_PAINT_MS, by the browser's own clock; print when it was.

    The best of three on a server that is warm: the machine does other things too.
    """
    times = []
    for _ in range(4):
        page.goto(path)
        times.append(float(page.evaluate(_PAINTED_AT)))
    print(f"first paint of {path}: {min(times[1:]):.0f} ms")
    assert min(times[1:]) <= FIRST_PAINT_MS, path
