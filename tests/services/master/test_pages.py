"""The pages for people."""

import json
import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from dist_test.master.pages import home, listing
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import result_key
from dist_test.storage.database import Database
from dist_test.storage.results import Bucket
from dist_test.storage.slaves import SlaveDescription, Slaves

from .conftest import HASH, Hand, job_document

VOID = {"meta", "link", "input", "br"}
EVIL = '"><script>alert(1)</script>'


class Page(HTMLParser):
    """A page whose tags are closed in order; notes what we look for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value for name, value in attrs if name == "href" and value]
        if tag == "script":
            self.scripts.append(dict(attrs).get("src") or "inline")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(client: FlaskClient, path: str, status: int = 200) -> Page:
    """A page, checked to have no script and no style but our own files."""
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    page = Page(answer.text)
    assert "style" not in page.tags
    assert page.scripts
    assert all(address.startswith("/static/") for address in page.scripts)
    assert not {name for name in page.attributes if name == "style" or name.startswith("on")}
    return page


def submit(client: FlaskClient, *descriptions: str, **fields: object) -> None:
    """Submit a job."""
    answer = client.post("/api/v1/jobs", json=job_document(*descriptions, **fields))  # type: ignore[arg-type]  # any field
    assert answer.status_code == 201, answer.text


def test_the_home_page_has_the_words_that_old_autoscalers_look_for(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a", "b", "c")
    hand.take()

    text = client.get("/").text

    match = re.search(r"Queue length: (\d+).*Running: (\d+)", text)
    assert match is not None
    assert match.groups() == ("2", "1")
    assert "Idle slaves: 0" in text


def test_an_empty_cluster_has_a_home_page(client: FlaskClient) -> None:
    text = read(client, "/").text

    assert "No jobs yet" in text
    assert "No slave has registered yet" in text


def test_the_home_page_shows_slaves_and_jobs(client: FlaskClient, slave_database: Database) -> None:
    Slaves(slave_database).register(
        SlaveDescription(slave_id="slave-7", instance_id="", zone="", mig="", template="", slots=3, version="1.2")
    )
    submit(client, "a", job_id="demo.ann.1700000000.1", owner="ann")

    page = read(client, "/")

    assert "slave-7" in page.text
    assert "0 of 3" in page.text
    assert "/job?job_id=demo.ann.1700000000.1" in page.links


def test_older_jobs_are_a_page_away(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "JOBS_PER_PAGE", 2)
    for number in range(3):
        submit(client, "a", job_id=f"job-{number}")

    first = read(client, "/")
    (older,) = [link for link in first.links if "before=" in link]
    second = read(client, older)

    assert "job-2" in first.text
    assert "job-0" not in first.text
    assert "job-0" in second.text
    assert not [link for link in second.links if "before=" in link]


def test_what_a_slave_runs_is_on_the_home_page_and_on_its_own(
    client: FlaskClient, hand: Hand, slave_database: Database
) -> None:
    Slaves(slave_database).register(
        SlaveDescription(slave_id="slave-1", instance_id="i-7", zone="", mig="", template="", slots=1, version="1.2")
    )
    submit(client, "FooTest", job_id="demo")
    hand.take()

    own = read(client, "/slave?slave_id=slave-1")

    for page in (read(client, "/"), own):
        assert "FooTest" in page.text
        assert "/job?job_id=demo&state=running&q=FooTest" in page.links
    assert "i-7" in own.text


def test_the_home_page_says_that_all_slaves_are_gone(client: FlaskClient, database: Database) -> None:
    rows = [("slave-1", 120), ("slave-2", 3 * 86_400)]
    with database.engine.begin() as connection:
        for name, seconds in rows:
            connection.execute(
                text(
                    "INSERT INTO slaves (slave_id, slots, busy, state, want, message, started_at, heartbeat, version)"
                    " VALUES (:name, 1, 0, 'up', 'run', '', UTC_TIMESTAMP(6),"
                    " UTC_TIMESTAMP(6) - INTERVAL :seconds SECOND, '1')"
                ),
                {"name": name, "seconds": seconds},
            )

    shown = read(client, "/").text

    assert "No slave is alive" in shown
    assert "1 gone in the last day, and 1 before" in shown
    assert "slave-1" in shown
    assert "slave-2" not in shown


@pytest.mark.parametrize("query", ["q=100%25", "q=DEMO", "job=demo", "owner=ANN", "project=p_1", "state=running"])
def test_jobs_are_found_by_each_field_and_by_nothing_but_its_text(client: FlaskClient, query: str) -> None:
    submit(client, "a", job_id="demo", name="100% done", owner="ann", project="p_1")
    submit(client, "a", job_id="else", name="100 done", owner="annie", project="pX1")
    client.post("/api/v1/jobs/else/cancel")

    page = read(client, f"/?{query}")

    assert [link for link in page.links if link.startswith("/job?")] == ["/job?job_id=demo"]


def test_a_job_page_shows_how_it_stands_and_how_to_run_a_task_again(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest", "BarTest", owner="ann", max_retries=1)
    hand.run(Outcome.FAILED, exit_status=3, stdout_bytes=2048, message="it broke")

    page = read(client, "/job?job_id=job")

    assert "0 of 2 tasks finished" in " ".join(page.text.split())
    assert "failed (3)" in page.text
    assert "it broke" in page.text
    assert f"dist-test run-isolated --hash {HASH} --leak-temp-dir" in page.text
    assert any(f"task_id={HASH}.0&attempt=0&log=stdout" in link and link.endswith("#log-view") for link in page.links)
    assert f"/task?job_id=job&task_id={HASH}.0" in page.links


def test_the_end_of_a_log_is_shown_in_place(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    submit(client, "FooTest", "BarTest")
    log = b"the beginning\n" + b"." * 80_000 + b"\n</pre><script>the end"
    hand.run(Outcome.FAILED, exit_status=3, stdout_bytes=len(log))
    bucket.put_file(result_key("job", f"{HASH}.0", 0, 1, "stdout"), BytesIO(log))

    page = read(client, f"/job?job_id=job&task_id={HASH}.0&attempt=0&log=stdout&state=failed&q=")

    assert "</pre><script>the end" in page.text
    assert "the beginning" not in page.text
    assert f"/log?job_id=job&task_id={HASH}.0&attempt=0&log=stdout" in page.links
    assert "/job?job_id=job&state=failed" in page.links


def test_a_log_that_is_gone_leaves_the_rest_of_the_page(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    submit(client, "FooTest")
    hand.run(Outcome.FAILED, exit_status=3, stdout_bytes=5)
    bucket.delete([result_key("job", f"{HASH}.0", 0, 1, "stdout")])

    page = read(client, f"/job?job_id=job&task_id={HASH}.0&attempt=0&log=stdout")

    assert "It cannot be read" in page.text
    assert "FooTest" in page.text


def test_a_flaky_attempt_is_marked(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest", max_retries=1)
    entry, claim = hand.run(Outcome.FAILED, exit_status=3)
    names = {"job_id": "job", "task_id": entry.task_id, "attempt": 0, "claim": claim.number}
    client.post("/retry_task", data={"task_json": json.dumps(names)})
    hand.run()

    text = read(client, "/job?job_id=job").text

    assert "succeeded flaky" in text
    assert "1flaky" in text


def test_a_canceled_job_says_why(client: FlaskClient) -> None:
    submit(client, "a")
    client.post("/api/v1/jobs/job/cancel", json={"reason": "wrong branch"})

    assert "wrong branch" in read(client, "/job?job_id=job").text


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("state=failed", "FooTest", "BarTest"),
        ("q=Bar", "BarTest", "FooTest"),
        ("state=succeeded", "No attempts", "Foo"),
    ],
)
def test_attempts_are_filtered_and_searched(
    client: FlaskClient, hand: Hand, query: str, shown: str, hidden: str
) -> None:
    submit(client, "FooTest", "BarTest")
    hand.run(Outcome.FAILED, exit_status=3)

    text = read(client, f"/job?job_id=job&{query}").text

    assert shown in text
    assert hidden not in text


def test_attempts_are_paged_and_the_filter_stays(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ATTEMPTS_PER_PAGE", 2)
    submit(client, "test 0", "test 1", "test 2")

    first = read(client, "/job?job_id=job&state=queued&q=test")
    (following,) = [link for link in first.links if "after=" in link]
    second = read(client, following)

    assert "state=queued" in following
    assert "test 2" in second.text
    assert "test 0" not in second.text


def test_text_from_tests_and_users_is_never_markup(client: FlaskClient, hand: Hand) -> None:
    submit(client, EVIL, owner=EVIL, name=EVIL)
    hand.run(Outcome.FAILED, exit_status=1, message=EVIL)

    for path in ("/", "/job?job_id=job", "/trace?job_id=job"):
        read(client, path)
    read(client, "/job?job_id=job&q=" + EVIL)
    read(client, "/job?job_id=" + EVIL, 404)
    read(client, "/" + EVIL, 404)


@pytest.mark.parametrize("path", ["/job", "/trace"])
def test_an_unknown_job_is_said_in_the_originals_words(client: FlaskClient, path: str) -> None:
    assert "No tasks found for specified job_id x" in read(client, f"{path}?job_id=x", 404).text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/job", 400),
        ("/job?job_id=job&state=odd", 400),
        ("/?before=x", 400),
        ("/?after=-1", 400),
        ("/?state=odd", 400),
        ("/slave", 400),
        ("/slave?slave_id=x", 404),
        ("/nonsense", 404),
        ("/download", 400),
    ],
)
def test_mistakes_get_a_page(client: FlaskClient, path: str, status: int) -> None:
    submit(client, "a")

    assert str(status) in read(client, path, status).text


def test_a_download_sends_the_browser_to_the_store(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a")
    hand.run(Outcome.FAILED, exit_status=1, stdout_bytes=1)

    answer = client.get(f"/download?job_id=job&task_id={HASH}.0&attempt=0&name=stdout")

    assert answer.status_code == 302
    assert f"/job/{HASH}.0/0/1/stdout?" in answer.headers["Location"]


@pytest.mark.parametrize("name", ["stderr", "artifacts.zip", "../secret", ""])
def test_what_was_not_stored_is_not_downloaded(client: FlaskClient, hand: Hand, name: str) -> None:
    submit(client, "a")
    hand.run(Outcome.FAILED, exit_status=1, stdout_bytes=1)

    assert client.get(f"/download?job_id=job&task_id={HASH}.0&attempt=0&name={name}").status_code == 404


def test_a_trace_has_what_ran_and_nothing_else(client: FlaskClient, hand: Hand) -> None:
    submit(client, "ran", "canceled before it ran")
    hand.run(Outcome.FAILED, exit_status=1)
    client.post("/api/v1/jobs/job/cancel")

    assert "/trace.json?job_id=job" in read(client, "/trace?job_id=job").links
    events = json.loads(client.get("/trace.json?job_id=job").text)["traceEvents"]
    (event,) = [event for event in events if event["ph"] == "X"]

    assert (event["cat"], event["name"], event["args"]["slave"]) == ("run", "ran", "slave-1")
    assert event["ts"] >= 0
    assert event["dur"] >= 0


def test_a_job_of_which_nothing_has_run_has_an_empty_trace(client: FlaskClient) -> None:
    submit(client, "a")

    assert client.get("/trace.json?job_id=job").json == {"traceEvents": []}


def test_the_style_sheet_is_served(client: FlaskClient) -> None:
    with client.get("/static/style.css") as answer:
        assert answer.status_code == 200
        assert b"prefers-color-scheme" in answer.data
