"""The page of a job as people use it: lists, logs, artifacts, and what can be done."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy import text

from dist_test.model.result_key import STDOUT, result_key
from dist_test.storage.database import Database
from dist_test.storage.results import Bucket

from ..services.master.conftest import Master
from . import world
from .conftest import WIDTHS
from .looks import paint_at_once, refuse_scrolling_sideways, refuse_serious, texts

TASK = f"job_id={world.FAILED}&task_id={world.HASH}.0"
LOG = f"{TASK}&attempt=2&log=stderr"
PAGES = {
    "job-failed": f"/job?job_id={world.FAILED}",
    "job-big": f"/job?job_id={world.BIG}",
    "job-canceled": f"/job?job_id={world.CANCELED}",
    "job-markup": f"/job?job_id={world.EVIL}",
    "job-nothing-found": f"/job?job_id={world.FAILED}&q=nothing",
    "job-log": f"/job?{LOG}",
    "task": f"/task?{TASK}&attempt=1&log=stdout",
    "log-search": f"/log?{LOG}&q=lease+1999",
    "log-line": f"/log?{LOG}&at=70000",
    "artifacts": f"/artifacts?{TASK}&attempt=0",
    "cancel": f"/job/cancel?job_id={world.BIG}",
    "live-log": f"/job?job_id={world.BIG}&state=running&task_id={world.HASH}.95000&attempt=0&log=stdout",
}
COUNT_UPDATES = """
    () => document.addEventListener("live", () => {
        document.body.dataset.updates = 1 + Number(document.body.dataset.updates ?? 0);
    })
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_fit_for_screen_readers_and_phones(page: Page, screenshots: Path, name: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for width_name, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(PAGES[name])
        page.screenshot(path=screenshots / f"{name}-{width_name}-{scheme}.png")
        refuse_scrolling_sideways(page)
        for summary in page.locator("summary").all()[:2]:
            summary.click()
        refuse_serious(page, width_name, scheme)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "&sort=longest",
        "&sort=oldest",
        "&sort=outcome",
        "&state=failed",
        "&state=flaky",
        "&q=Test9499",
        "&q=nothing",
    ],
)
def test_the_first_paint_of_a_job_of_100_000_attempts_takes_less_than_a_second(page: Page, query: str) -> None:
    paint_at_once(page, f"/job?job_id={world.BIG}{query}")


def names(page: Page) -> list[str]:
    return texts(page, "#list tbody summary")


def test_counts_headings_and_pages_lead_through_100_000_attempts(page: Page) -> None:
    page.goto(f"/job?job_id={world.BIG}")
    expect(page.locator("#progress")).to_contain_text("95,000 of 100,000 tasks finished")

    page.get_by_role("link", name="failed", exact=True).click()
    expect(page.get_by_label("State")).to_have_value("failed")
    assert names(page)[:2] == ["org.example.module0.Test0", "org.example.module1.Test1"]

    page.get_by_role("link", name="Duration").click()
    expect(page.locator("th", has_text="Duration")).to_have_attribute("aria-sort", "descending")
    expect(page.get_by_label("State")).to_have_value("failed")
    first = names(page)
    page.get_by_role("link", name="Next").click()
    assert not set(first) & set(names(page))
    page.get_by_role("link", name="First").click()
    assert names(page) == first

    page.get_by_label("State").select_option("all")
    page.get_by_label("Test or slave").fill("Test94999")
    page.get_by_role("button", name="Show").click()
    assert names(page) == ["org.example.module39.Test94999"]
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.get_by_label("Test or slave")).to_have_value("")


def test_what_is_unfolded_stays_so_while_the_page_is_live(page: Page) -> None:
    page.goto(f"/job?job_id={world.BIG}")
    page.locator("summary").first.click()
    page.evaluate(COUNT_UPDATES)

    expect(page.locator("body")).to_have_attribute("data-updates", "2", timeout=15_000)
    expect(page.locator("details").first).to_have_attribute("open", "")
    expect(page.locator("details").first).to_contain_text("dist-test run-isolated --hash")


def test_a_finished_job_is_not_asked_for_again(page: Page) -> None:
    page.goto(PAGES["job-failed"])

    expect(page.locator("[data-live]")).to_have_count(0)
    expect(page.locator(".chip.flaky")).to_have_count(1)


def test_the_command_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(PAGES["job-failed"])
    page.locator("summary").first.click()
    page.locator("details").first.get_by_role("button", name="Copy").last.click()

    expect(page.locator("details").first.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()").endswith(f"run-isolated --hash {world.HASH} --leak-temp-dir")


def is_at_end(log: Locator) -> bool:
    return bool(log.evaluate("(log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2"))


def test_a_log_opens_in_place_at_its_end(page: Page) -> None:
    page.goto(PAGES["job-failed"])
    page.get_by_role("link", name="stderr").first.click()

    log = page.locator("pre.log")
    expect(log).to_contain_text(world.FAILURE_LINE)
    assert is_at_end(log)
    expect(log.locator(".ansi-red")).to_have_text("red")
    expect(page.locator("#list tbody tr").nth(1)).to_have_id("log")
    page.get_by_role("link", name="Close").click()
    expect(log).to_have_count(0)


def test_what_is_above_is_loaded_up_to_the_first_line(page: Page) -> None:
    page.goto(PAGES["job-log"])
    log, above = page.locator("pre.log"), page.get_by_role("link", name="Load more above")
    log.evaluate("(log) => { log.scrollTop = 100; }")
    distance = "(log) => log.scrollHeight - log.scrollTop"
    before = log.evaluate(distance)
    first = page.locator(".log-view").get_attribute("data-start") or ""
    above.click()
    expect(page.locator(".log-view")).not_to_have_attribute("data-start", first)
    assert abs(log.evaluate(distance) - before) < 2

    for _ in range(12):
        if above.count() == 0:
            break
        start = page.locator(".log-view").get_attribute("data-start") or ""
        above.click()
        expect(page.locator(".log-view")).not_to_have_attribute("data-start", start)

    lines = log.inner_text().splitlines()
    assert lines[0] == "WARN lease 0 expired <b>&amp;"
    assert len(lines) == world.STDERR_LINES + 2


def test_a_log_is_searched_as_far_as_it_is_there_and_as_a_whole(page: Page) -> None:
    page.goto(PAGES["job-log"])
    page.get_by_label("Find in this log").fill("LEASE 1999")
    expect(page.locator(".found")).to_have_text("10 in what is loaded")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".found")).to_have_text("10 of 10 in what is loaded")
    assert page.evaluate("CSS.highlights.get('current').size") == 1
    page.get_by_label("Find in this log").fill('red "><script>')  # across a colour's end
    expect(page.locator(".found")).to_have_text("1 in what is loaded")

    page.get_by_label("Find in this log").fill("lease 1999")
    page.get_by_role("button", name="Search all of it").click()
    expect(page.locator(".matches li")).to_have_count(11)
    page.get_by_role("link", name="Line 2000", exact=True).click()
    expect(page.locator("#at")).to_have_text("WARN lease 1999 expired <b>&amp;")
    expect(page.locator("#at")).to_be_in_viewport()


def test_a_raw_log_runs_nothing(page: Page) -> None:
    answer = page.goto(f"/log/raw?{LOG}")

    assert answer is not None
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    expect(page.locator("script")).to_have_count(0)


def test_artifacts_are_saved_one_by_one(page: Page, tmp_path: Path) -> None:
    page.goto(PAGES["job-failed"])
    page.get_by_role("link", name="artifacts").first.click()
    for name, saved_as, size in (
        ("core.txt", "core.txt", 250_000),
        (world.MARKUP, "script_.txt", 4),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.suggested_filename == saved_as
        download.value.save_as(tmp_path / saved_as)
        assert (tmp_path / saved_as).stat().st_size == size


def test_a_task_shows_its_attempts_and_any_log(page: Page) -> None:
    page.goto(PAGES["job-failed"])
    page.locator("summary").first.click()
    page.get_by_role("link", name="All attempts of this task").first.click()

    assert texts(page, "#lineage tbody th") == ["Attempt 0", "Attempt 1", "Attempt 2"]
    page.locator("#attempt-1").get_by_role("link", name="stdout").click()
    expect(page.locator("pre.log")).to_contain_text("block 1999 replicated")


def test_logs_are_read_without_scripts(browser: Browser, master: Master) -> None:
    context = browser.new_context(base_url=master.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(PAGES["job-log"])
    expect(page.locator("pre.log")).to_contain_text(world.FAILURE_LINE)
    expect(page.get_by_role("button", name="Next")).to_be_hidden()

    page.get_by_role("link", name="Load more above").click()
    expect(page.locator("pre.log")).not_to_contain_text(world.FAILURE_LINE)
    page.get_by_role("link", name="Further down").click()
    expect(page.locator("pre.log")).to_contain_text(world.FAILURE_LINE)
    page.get_by_label("Find in this log").fill("lease 77 ")
    page.get_by_role("button", name="Search all of it").click()
    expect(page.locator(".matches li")).to_have_count(1)
    context.close()


# Jobs of a test's own

OF_JOBS = "JOIN jobs USING (job_key) WHERE job_id IN (:one, :two)"
MakeJob = Callable[..., str]


@pytest.fixture
def make_job(browser_database: Database, master: Master) -> Iterator[MakeJob]:
    """Add a job of one task, which ended with an outcome or runs (None). It and its rerun are removed afterwards."""
    made: list[str] = []

    def make(name: str, outcome: str | None) -> str:
        made.append(name)
        with browser_database.engine.begin() as connection:
            counts = {"total_tasks": 1, "total_attempts": 1}
            if outcome is not None:
                counts |= {"finished_tasks": 1, "finished_attempts": 1, "failed_tasks": 1}
            seconds = None if outcome is None else 30.0
            key = world.add_job(connection, name, hours_ago=0.1, seconds=seconds, owner="dan", project="own", **counts)
            world.add_task(connection, key, 0, "own test")
            if outcome is None:
                world.add_running_attempt(connection, key, 0)
            else:
                world.add_attempt(connection, key, 0, 0, began=1.0, seconds=9.0, outcome=outcome, exit_status=1)
        return name

    yield make
    with browser_database.engine.begin() as connection:
        for name in made:
            names = {"one": name, "two": f"{name}.rerun-1"}
            for table in ("live_logs", "events", "attempts", "tasks"):
                connection.execute(text(f"DELETE {table} FROM {table} {OF_JOBS}"), names)
            connection.execute(text("DELETE FROM jobs WHERE job_id IN (:one, :two)"), names)


def test_a_job_is_canceled_with_a_second_thought(page: Page, make_job: MakeJob) -> None:
    page.goto(f"/job?job_id={make_job('own.cancel', None)}")
    page.get_by_role("link", name="Cancel job").click()
    page.get_by_role("link", name="Keep it").click()
    expect(page.locator("#progress .chip")).to_have_text("running")

    page.get_by_role("link", name="Cancel job").click()
    page.get_by_label("Why").fill("wrong <branch>")
    page.get_by_role("button", name="Cancel the job").click()

    expect(page.locator(".notice")).to_have_text("Canceled: wrong <branch>")
    expect(page.get_by_role("link", name="Cancel job")).to_have_count(0)


def test_what_failed_is_run_again(page: Page, make_job: MakeJob) -> None:
    name = make_job("own.rerun", "failed")
    page.goto(f"/job?job_id={name}")
    page.get_by_role("button", name="Rerun 1 failed task").click()

    expect(page.locator("h1")).to_have_text("own.rerun.rerun-1")
    assert names(page) == ["own test"]
    page.get_by_role("link", name="own.rerun", exact=True).click()
    expect(page.get_by_role("link", name="own.rerun.rerun-1")).to_be_visible()
    page.get_by_role("link", name="own.rerun.rerun-1").click()
    page.get_by_role("link", name="Cancel job").click()  # so that its entry leaves the queue
    page.get_by_role("button", name="Cancel the job").click()


WRITE = text("""
    UPDATE live_logs JOIN jobs USING (job_key)
    SET claim = 1, written_at = UTC_TIMESTAMP(6), stdout_bytes = :total, stdout_tail = :tail WHERE job_id = :job
""")
END = text("""
    UPDATE attempts JOIN jobs USING (job_key)
    SET attempts.finished_at = UTC_TIMESTAMP(6) - INTERVAL 10 SECOND, lease_until = NULL, outcome = 'failed',
        exit_status = 1, duration_seconds = 9, stdout_bytes = :size, state = 'finished',
        jobs.finished_at = UTC_TIMESTAMP(6), finished_tasks = 1, finished_attempts = 1, failed_tasks = 1
    WHERE job_id = :job
""")


def test_a_live_log_grows_and_becomes_the_stored_one(
    page: Page, make_job: MakeJob, browser_database: Database, bucket: Bucket
) -> None:
    name = make_job("own.live", None)

    def write(log: bytes) -> None:
        with browser_database.engine.begin() as connection:
            connection.execute(WRITE, {"job": name, "total": len(log), "tail": log})

    page.goto(f"/job?job_id={name}")
    with page.expect_response("**/api/v1/jobs/own.live/**"):
        page.get_by_role("link", name="stdout").click()
    log = page.locator("pre.log")
    written = b"first <line>\n" + b"line\n" * 200 + b"\x1b[31mcoloured\x1b[0m\n"
    write(written)
    expect(log).to_contain_text("first <line>")
    expect(log).to_contain_text("line\ncoloured\n")
    assert is_at_end(log)

    log.evaluate("(log) => { log.scrollTop = 0; }")
    written += b"more\n"
    write(written)
    expect(log).to_contain_text("coloured\nmore\n")
    assert log.evaluate("(log) => log.scrollTop") == 0
    expect(page.locator(".live-state")).to_have_text("Live: the attempt is running.")

    bucket.upload(result_key(name, f"{world.HASH}.0", 0, 1, STDOUT), io.BytesIO(written), len(written))
    with browser_database.engine.begin() as connection:
        connection.execute(END, {"job": name, "size": len(written)})
    expect(page.get_by_role("link", name="Raw")).to_be_visible(timeout=10_000)
    expect(log.locator(".ansi-red")).to_have_text("coloured")
    expect(page.locator(".live-state")).to_have_count(0)
