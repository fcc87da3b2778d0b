"""The audit of a job as people read it: clean with its sum, or each breach with what happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from dist_test.storage.database import Database

from . import world
from .conftest import WIDTHS
from .looks import refuse_scrolling_sideways, refuse_serious, texts

CLEAN, BROKEN = "own.clean", "own.broken"


@pytest.fixture
def audited(browser_database: Database) -> Iterator[None]:
    """A job that ended with all its events, and one that was finished twice."""
    counts = {"total_tasks": 1, "total_attempts": 1, "finished_tasks": 1, "finished_attempts": 1}
    counts |= {"succeeded_tasks": 1, "succeeded_attempts": 1}
    with browser_database.engine.begin() as connection:
        for name, ends in ((CLEAN, 1), (BROKEN, 2)):
            key = world.add_job(connection, name, hours_ago=0.1, seconds=30.0, owner="dan", project="own", **counts)
            world.add_task(connection, key, 0, "own test")
            world.add_attempt(connection, key, 0, 0, began=1.0, seconds=9.0)
            for kind, task in (("submitted", None), ("enqueued", None), ("claimed", 0), *(("finished", 0),) * ends):
                connection.execute(
                    text(
                        "INSERT INTO events (job_key, task_index, attempt, kind, actor, claim, detail)"
                        " VALUES (:job, :task, :task, :kind, 'slave-1', :task + 1, :detail)"
                    ),
                    {"job": key, "task": task, "kind": kind, "detail": "succeeded" if kind == "finished" else None},
                )
    yield
    with browser_database.engine.begin() as connection:
        for table in ("events", "attempts", "tasks"):
            connection.execute(
                text(f"DELETE {table} FROM {table} JOIN jobs USING (job_key) WHERE job_id IN (:one, :two)"),
                {"one": CLEAN, "two": BROKEN},
            )
        connection.execute(text("DELETE FROM jobs WHERE job_id IN (:one, :two)"), {"one": CLEAN, "two": BROKEN})


@pytest.mark.usefixtures("audited")
def test_the_jobs_page_leads_to_a_clean_audit_and_back(page: Page) -> None:
    page.goto(f"/job?job_id={CLEAN}")
    page.get_by_role("link", name="Audit", exact=True).click()
    expect(page.locator(".chip")).to_have_text("clean")
    expect(page.locator("main")).to_contain_text("1 tasks = 1 ended + 0 running + 0 queued")

    page.get_by_role("link", name="Back to the job").click()
    expect(page.locator("h1")).to_have_text(CLEAN)


@pytest.mark.usefixtures("audited")
def test_a_breach_is_shown_with_what_happened(page: Page) -> None:
    page.goto(f"/job/audit?job_id={BROKEN}")
    expect(page.locator(".chip")).to_have_text("1 breach")
    expect(page.locator("h2")).to_have_text("Task 0, attempt 0")
    expect(page.locator("section")).to_contain_text("It was finished 2 times, its outcome is succeeded.")
    assert texts(page, "tbody tr td:nth-child(2)") == ["claimed", "finished", "finished"]


@pytest.mark.usefixtures("audited")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [CLEAN, BROKEN, world.EVIL])
def test_audits_are_fit_for_screen_readers_and_phones(page: Page, screenshots: Path, name: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    for width_name, width in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"/job/audit?job_id={name}")
        page.screenshot(path=screenshots / f"audit-{name}-{width_name}-{scheme}.png")
        refuse_scrolling_sideways(page)
        refuse_serious(page, width_name, scheme)


def test_an_audit_of_100_000_attempts_comes_within_its_bounds(page: Page, screenshots: Path) -> None:
    # Its rows were made by hand, without events: whatever is shown of so many breaches is bounded, too.
    page.goto(f"/job/audit?job_id={world.BIG}", timeout=120_000)
    expect(page.locator("main")).to_contain_text("= 95,000 ended + 64 running + 0 queued + 4,936 unaccounted for")
    expect(page.locator("main")).to_contain_text("4,936 attempts in all wait, but are not in the queue.")
    assert page.locator("section").count() < 500
    page.screenshot(path=screenshots / "audit-big.png")
