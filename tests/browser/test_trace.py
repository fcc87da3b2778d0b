"""The timeline of a job, as people use it."""

import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import text

from dist_test.storage.database import Database

from ..services.master.conftest import Master
from ..trace_rules import broken_rules
from . import world
from .conftest import WIDTHS, OpenPage
from .looks import refuse_scrolling_sideways, refuse_serious

FRAME_MS = 20
ALL_ATTEMPTS = world.BIG_TASKS + sum(n % 200 == 1 for n in range(world.BIG_FINISHED))
LIVE = "live.trace"
FAILED_PAGE, BIG_PAGE = f"/trace?job_id={world.FAILED}", f"/trace?job_id={world.BIG}"
TIMELINE = "document.getElementById('timeline').timeline"
# Where an attempt's box is, in pixels of the page.
PLACE = f"""([test, attempt]) => {{
  const {{ spans, drawing, look, view }} = {TIMELINE};
  const span = spans.test.findIndex((name, place) => name === test && spans.attempt[place] === attempt);
  const frame = view.getBoundingClientRect();
  const middle = (spans.started[span] + spans.endOf(span)) / 2;
  return [frame.left + drawing.x(middle, look), frame.top + drawing.tops[spans.laneOf[span]] - view.scrollTop + 8];
}}"""
# The milliseconds between frames while somebody zooms in and out.
FRAMES = f"""async () => {{
  const view = {TIMELINE}.view, frame = view.getBoundingClientRect(), times = [];
  for (let step = 0; step < 120; step += 1) {{
    times.push(await new Promise(requestAnimationFrame));
    const deltaY = step < 60 ? -60 : 60;
    const place = {{ clientX: frame.left + 700, clientY: frame.top + 200 }};
    view.dispatchEvent(new WheelEvent("wheel", {{ deltaY, ...place, bubbles: true, cancelable: true }}));
  }}
  return times.slice(1).map((time, place) => time - times[place]);
}}"""
LANES_OF_RANDOM_RUNS = """() => {
  let seed = 7;
  const random = (limit) => { seed = (seed * 48271) % 2147483647; return seed % limit; };
  const starts = Array.from({ length: 300 }, () => random(1000)).sort((one, other) => one - other);
  const ends = starts.map((start) => start + random(30));
  return [starts, ends, packLanes(starts.keys(), starts, ends)];
}"""


def open_trace(page: Page, path: str) -> None:
    """Go there and wait until all attempts are loaded."""
    page.goto(path)
    page.wait_for_selector("#timeline[data-loaded]", timeout=30_000)


def shown(page: Page) -> tuple[float, float]:
    """The milliseconds from which and to which the timeline shows."""
    look = page.evaluate(f"(({{from, to}}) => [from, to])({TIMELINE}.look)")
    return look[0], look[1]


def length(page: Page) -> float:
    """How many milliseconds are in sight."""
    first, last = shown(page)
    return last - first


def test_each_attempt_has_a_place_in_a_lane_of_its_slave(page: Page) -> None:
    open_trace(page, FAILED_PAGE)

    lanes = page.evaluate(f"{TIMELINE}.spans.lanes.map((lane) => [lane.slave, lane.number, lane.spans.length])")

    assert lanes == [
        ["slave-0", 0, 1],
        ["slave-1", 0, 2],
        ["slave-1", 1, 1],
        ["slave-2", 0, 1],
        ["slave-2", 1, 1],
        ["slave-3", 0, 1],
        ["slave-4", 0, 1],
    ]
    expect(page.locator("#timeline .loaded")).to_have_text("8 attempts")


def test_lanes_never_overlap_and_are_as_few_as_can_be(page: Page) -> None:
    open_trace(page, FAILED_PAGE)

    starts, ends, lanes = page.evaluate(LANES_OF_RANDOM_RUNS)

    runs = list(zip(lanes, starts, ends, strict=True))
    for place, (lane, start, _) in enumerate(runs):
        assert all(other != lane or end <= start for other, _, end in runs[:place])
    needed = [1 + sum(end > start for *_, end in runs[:place]) for place, start in enumerate(starts)]
    assert len(set(lanes)) == max(needed)


def test_a_box_tells_what_it_is_and_opens_its_log(page: Page) -> None:
    open_trace(page, FAILED_PAGE)
    x, y = page.evaluate(PLACE, [world.FAILING_TEST, 1])

    page.mouse.move(x, y)

    tip = page.locator("#timeline .tip")
    expect(tip).to_contain_text(world.FAILING_TEST)
    expect(tip).to_contain_text("attempt 1 on slave-1: failed")
    expect(tip).to_contain_text("queued 1:24.000, started 1:25.000 after the submit")
    expect(tip).to_contain_text("waited 1.00 s, ran 1:01")

    page.mouse.click(x, y)

    expect(page).to_have_url(re.compile(r"/task\?job_id=.*&task_id=0&attempt=1&log=stderr#log-view"))
    expect(page.locator("#log-view")).to_contain_text(world.FAILURE_LINE)


def test_the_wheel_zooms_where_the_pointer_is(page: Page) -> None:
    open_trace(page, FAILED_PAGE)
    x, y = page.evaluate(PLACE, [world.FAILING_TEST, 1])
    whole = length(page)
    page.mouse.move(x, y)

    page.mouse.wheel(0, -300)
    page.wait_for_function(f"() => ({TIMELINE}.look.to - {TIMELINE}.look.from) < {whole * 0.7}")

    assert page.evaluate(PLACE, [world.FAILING_TEST, 1])[0] == pytest.approx(x, abs=2)
    expect(page.locator("#timeline .tip")).to_contain_text(world.FAILING_TEST)


def test_buttons_and_keys_zoom_and_move(page: Page) -> None:
    open_trace(page, FAILED_PAGE)
    whole = length(page)

    page.get_by_role("button", name="Zoom in").click()
    assert length(page) == pytest.approx(whole / 1.4)
    page.get_by_role("button", name="Zoom out").click()
    assert length(page) == pytest.approx(whole)
    page.locator("#timeline .view").focus()
    for _ in range(3):
        page.keyboard.press("+")
    before = shown(page)
    page.keyboard.press("ArrowRight")
    after = shown(page)
    assert after[0] > before[0]
    assert after[1] - after[0] == pytest.approx(before[1] - before[0])
    page.keyboard.press("ArrowLeft")
    assert shown(page)[0] == pytest.approx(before[0])
    page.keyboard.press("-")
    page.keyboard.press("0")
    assert length(page) == pytest.approx(whole)


def test_a_drag_moves_and_opens_nothing(page: Page) -> None:
    open_trace(page, FAILED_PAGE)
    page.locator("#timeline .view").focus()
    for _ in range(4):
        page.keyboard.press("+")
    before = shown(page)
    x, y = page.evaluate(PLACE, ["org.example.hdfs.TestBalancer", 0])

    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 100, y, steps=5)
    page.mouse.up()

    assert shown(page)[0] > before[0]
    expect(page).to_have_url(re.compile(re.escape(FAILED_PAGE)))


def test_fingers_pinch_and_a_touch_shows_where_the_log_is(browser: Browser, master: Master) -> None:
    context = browser.new_context(
        base_url=master.url, viewport={"width": WIDTHS["phone"], "height": 900}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    open_trace(page, FAILED_PAGE)
    x, y = page.evaluate(PLACE, ["org.example.hdfs.TestBalancer", 0])
    touches = context.new_cdp_session(page)

    page.touchscreen.tap(x, y)
    expect(page.locator("#timeline .picked")).to_contain_text("TestBalancer")
    expect(page.locator("#timeline .picked a")).to_have_attribute("href", re.compile(r"task_id=2&attempt=0"))
    whole = length(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", None)):
        points = [] if apart is None else [{"x": 220 - apart, "y": y, "id": 1}, {"x": 220 + apart, "y": y, "id": 2}]
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    assert length(page) < whole * 0.6
    context.close()


def test_tests_are_found_by_name_one_after_the_other(page: Page) -> None:
    open_trace(page, FAILED_PAGE)
    box = page.get_by_label("Find tests by name")

    box.fill("append")
    expect(page.locator("#timeline .found")).to_have_text("3 of 8 attempts")
    box.press("Enter")
    expect(page.locator("#timeline .picked")).to_contain_text("attempt 0 on slave-0: failed")
    box.press("Enter")
    expect(page.locator("#timeline .picked")).to_contain_text("attempt 1 on slave-1: failed")
    page.locator("#timeline .picked a").click()

    expect(page).to_have_url(re.compile(r"/task\?.*task_id=0&attempt=1"))


def test_who_waits_is_counted_over_time(page: Page) -> None:
    open_trace(page, FAILED_PAGE)

    assert page.evaluate(f"[1000, 6500, 64000, 1e9].map((time) => {TIMELINE}.spans.waitingAt(time))") == [5, 2, 0, 0]


@pytest.fixture
def live_job(master: Master, browser_database: Database) -> Iterator[Database]:
    """A job with a task that runs and one that waits, for this test alone."""
    with browser_database.engine.begin() as connection:
        key = connection.execute(
            text(
                "INSERT INTO jobs (job_id, name, project, owner, fingerprint, state, period, first_tag, weight,"
                " submitted_at, total_tasks, total_attempts) VALUES (:id, '', 'live', 'ann', REPEAT('0', 64),"
                " 'running', 1, 0, 1, UTC_TIMESTAMP(6) - INTERVAL 60 SECOND, 2, 2)"
            ),
            {"id": LIVE},
        ).lastrowid
        connection.execute(
            text(
                "INSERT INTO tasks (job_key, task_index, isolate_hash, description, timeout_seconds, max_retries)"
                " VALUES (:key, 0, 'aa', 'first', 0, 0), (:key, 1, 'aa', 'second', 0, 0)"
            ),
            {"key": key},
        )
        connection.execute(
            text(
                "INSERT INTO attempts (job_key, task_index, attempt, queued_at) SELECT job_key, task_index, 0,"
                " submitted_at FROM jobs JOIN tasks USING (job_key) WHERE job_key = :key"
            ),
            {"key": key},
        )
    _change(browser_database, 0, "started_at = UTC_TIMESTAMP(6) - INTERVAL 30 SECOND")
    yield browser_database
    with browser_database.engine.begin() as connection:
        for table in ("attempts", "tasks", "jobs"):
            connection.execute(text(f"DELETE FROM {table} WHERE job_key = :key"), {"key": key})  # noqa: S608  # ours


def _change(database: Database, task: int, change: str) -> None:
    """Change an attempt of the live job, which a slave has from now on."""
    with database.engine.begin() as connection:
        connection.execute(
            text(
                f"UPDATE attempts JOIN jobs USING (job_key) SET {change}, slave_id = 'slave-0', has_started = 1,"  # noqa: S608  # ours
                " lease_until = UTC_TIMESTAMP(6) + INTERVAL 1 HOUR WHERE job_id = :id AND task_index = :task"
            ),
            {"id": LIVE, "task": task},
        )


def test_a_running_job_is_followed_to_its_end(page: Page, live_job: Database) -> None:
    states = f"JSON.stringify({TIMELINE}.spans.state)"
    open_trace(page, f"/trace?job_id={LIVE}")
    assert json.loads(page.evaluate(states)) == ["running", "waiting"]

    _change(live_job, 0, "outcome = 'failed', attempts.finished_at = UTC_TIMESTAMP(6)")
    _change(live_job, 1, "started_at = UTC_TIMESTAMP(6)")
    page.wait_for_function(f'() => {states} === \'["failed","running"]\'', timeout=15_000)

    _change(live_job, 1, "outcome = 'succeeded', attempts.finished_at = UTC_TIMESTAMP(6)")
    with live_job.engine.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET state = 'finished', finished_at = UTC_TIMESTAMP(6) WHERE job_id = :id"), {"id": LIVE}
        )
    expect(page.locator("#timeline .loaded")).to_have_text("2 attempts; the job has ended", timeout=15_000)
    assert json.loads(page.evaluate(states)) == ["failed", "succeeded"]


def test_a_hundred_thousand_attempts_are_smooth(page: Page) -> None:
    open_trace(page, BIG_PAGE)
    expect(page.locator("#timeline .loaded")).to_have_text(f"{ALL_ATTEMPTS:,} attempts")

    times = page.evaluate(FRAMES)

    median, slow = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    print(f"frames while zooming in {ALL_ATTEMPTS} attempts: median {median:.1f} ms, 95 % within {slow:.1f} ms")
    assert median <= FRAME_MS


def test_without_a_script_there_are_tables(browser: Browser, master: Master) -> None:
    context = browser.new_context(base_url=master.url, java_script_enabled=False)
    page = context.new_page()
    page.goto(FAILED_PAGE)

    expect(page.locator("#timeline")).to_be_hidden()
    expect(page.get_by_text("The timeline is drawn by a script.")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("TestBalancer"))).to_contain_text("timed out")
    expect(page.get_by_text(re.compile("TestBalancer ended last, on slave-2: it ran for 4 min"))).to_be_visible()
    context.close()


def test_the_download_of_a_job_opens_in_viewers(page: Page) -> None:
    open_trace(page, FAILED_PAGE)

    with page.expect_download() as download:
        page.get_by_role("link", name="Download as trace events").click()

    document: dict[str, Any] = json.loads(Path(download.value.path()).read_text())
    assert broken_rules(document) == []
    assert len([event for event in document["traceEvents"] if event["ph"] == "X"]) == 8
    assert download.value.suggested_filename == f"{world.FAILED}.trace.json"


def test_markup_in_names_stays_text(page: Page) -> None:
    open_trace(page, f"/trace?job_id={world.EVIL}")
    x, y = page.evaluate(PLACE, [world.MARKUP, 0])

    page.mouse.move(x, y)

    expect(page.locator("#timeline .tip")).to_contain_text(world.MARKUP)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_trace_fits_and_is_fit_for_a_screen_reader(
    open_page: OpenPage, screenshots: Path, width: str, scheme: str
) -> None:
    page = open_page(width, scheme)
    for name, path in {
        "trace": FAILED_PAGE,
        "trace-big": BIG_PAGE,
        "trace-waits": f"/trace?job_id={world.CANCELED}",
    }.items():
        open_trace(page, path)
        page.screenshot(path=screenshots / f"{name}-{width}-{scheme}.png")

        refuse_scrolling_sideways(page)
        refuse_serious(page, width, scheme)
