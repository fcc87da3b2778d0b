"""The pages of a job: its attempts, logs and artifacts, and what can be done to it."""

import json
import zipfile
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient

from dist_test.master.pages import artifacts as artifact_pages
from dist_test.master.pages import listing
from dist_test.model.outcome import Outcome
from dist_test.model.result_key import result_key
from dist_test.storage.results import Bucket

from .conftest import HASH, STRANGER, Challenge, Hand, MakeApp, digest_header
from .test_pages import EVIL, read, submit

TASK = f"job_id=job&task_id={HASH}.0&attempt=0"


def squeezed(text: str) -> str:
    """The text as it looks in a browser."""
    return " ".join(text.split())


def answered(client: FlaskClient, path: str) -> Any:
    """The JSON at an address."""
    return json.loads(client.get(path).text)


def store(bucket: Bucket, content: bytes, name: str = "stdout", task: int = 0) -> None:
    bucket.put_file(result_key("job", f"{HASH}.{task}", 0, 1, name), BytesIO(content))


def fail_with_log(client: FlaskClient, hand: Hand, bucket: Bucket, log: bytes) -> None:
    """A job of one task that failed and left this on stdout."""
    submit(client, "FooTest")
    hand.run(Outcome.FAILED, exit_status=3, stdout_bytes=len(log))
    store(bucket, log)


def test_the_whole_job_is_told(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest", "BarTest", owner="ann", project="kudu", max_failed_tasks=5)
    hand.run(Outcome.FAILED, exit_status=3, message="it broke")
    hand.take()

    page = read(client, "/job?job_id=job")
    text = squeezed(page.text)

    for words in (
        "1 of 2 tasks finished",
        "Ownerann",
        "Projectkudu",
        "after 5 failed tasks",
        "1failed",
        "1running",
    ):
        assert words in text
    for state in ("succeeded", "failed", "flaky", "running", "queued"):
        assert f"/job?job_id=job&state={state}#attempts" in page.links
    assert "/job/cancel?job_id=job" in page.links


def test_a_job_is_live_until_it_ends(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest")

    assert client.get("/job?job_id=job").text.count('data-live="3"') == 2
    assert client.get(f"/task?job_id=job&task_id={HASH}.0").text.count('data-live="3"') == 1
    hand.run()
    assert "data-live" not in client.get("/job?job_id=job").text
    assert "data-live" not in client.get(f"/task?job_id=job&task_id={HASH}.0").text


@pytest.mark.parametrize(
    ("sort", "first"), [("longest", "Slow"), ("shortest", "Quick"), ("newest", "Quick"), ("", "Slow")]
)
def test_attempts_are_sorted(client: FlaskClient, hand: Hand, sort: str, first: str) -> None:
    submit(client, "Slow", "Quick")
    hand.run(duration_seconds=9.0)
    hand.run(duration_seconds=1.0)

    text = read(client, f"/job?job_id=job&sort={sort}").text

    assert (text.index("Slow") < text.index("Quick")) == (first == "Slow")


def test_sorted_attempts_are_paged(client: FlaskClient, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ATTEMPTS_PER_PAGE", 2)
    submit(client, "test 0", "test 1", "test 2")
    for seconds in (1.0, 3.0, 2.0):
        hand.run(duration_seconds=seconds)

    first = read(client, "/job?job_id=job&sort=longest&q=test")
    (following,) = [link for link in first.links if "after=" in link]
    second = read(client, following)

    assert "test 0" not in first.text
    assert [name for name in ("test 0", "test 1", "test 2") if name in second.text] == ["test 0"]
    assert "/job?job_id=job&q=test&sort=longest#attempts" in second.links


def test_the_command_names_the_isolate_server_that_the_master_knows(make_app: MakeApp) -> None:
    client = make_app(isolate_server="http://isolate.example:4242").test_client()
    submit(client, "FooTest")

    command = f"ISOLATE_SERVER=http://isolate.example:4242 dist-test run-isolated --hash {HASH} --leak-temp-dir"

    assert command in read(client, "/job?job_id=job").text
    assert command in read(client, f"/task?job_id=job&task_id={HASH}.0").text


def test_a_task_shows_all_its_attempts_in_order(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest", max_retries=1)
    entry, claim = hand.run(Outcome.FAILED, exit_status=3, stdout_bytes=1, message="it broke")
    names = {"job_id": "job", "task_id": entry.task_id, "attempt": 0, "claim": claim.number}
    client.post("/retry_task", data={"task_json": json.dumps(names)})
    hand.run()

    page = read(client, f"/task?job_id=job&task_id={HASH}.0")
    text = squeezed(page.text)

    assert text.index("Attempt 0 failed (3)it broke slave-1") < text.index("Attempt 1 succeeded flaky slave-1")
    assert f"/task?job_id=job&task_id={HASH}.0&attempt=0&log=stdout#log-view" in page.links
    assert read(client, "/task?job_id=job&task_id=0").text == page.text


@pytest.mark.parametrize("task", ["1", f"{HASH}.1", "b" * 40 + ".0", "x", ""])
def test_an_unknown_task_is_not_found(client: FlaskClient, task: str) -> None:
    submit(client, "FooTest")

    assert "no task" in read(client, f"/task?job_id=job&task_id={task}", 404).text


def test_a_log_begins_with_its_end(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    log = b"the beginning\n" + b"line\n" * 20_000 + b"\x1b[31m</pre><script>the end\xff"
    fail_with_log(client, hand, bucket, log)

    for path in ("/job?", "/task?", "/log?"):
        page = read(client, f"{path}{TASK}&log=stdout")
        assert "</pre><script>the end\ufffd" in page.text
        assert "the beginning" not in page.text
        assert f"/log/raw?{TASK}&log=stdout" in page.links
    (above,) = [link for link in page.links if "before=" in link]
    assert "<script>the end" not in read(client, above).text


def test_pieces_lead_to_the_beginning(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    log = b"<the beginning>\n" + b"line\n" * 20_000
    fail_with_log(client, hand, bucket, log)

    last = answered(client, f"/log/piece?{TASK}&log=stdout")
    first = answered(client, f"/log/piece?{TASK}&log=stdout&before={last['start']}")

    assert (first["start"], first["end"], last["end"]) == (0, last["start"], len(log))
    assert first["html"].startswith("&lt;the beginning&gt;\n")
    assert answered(client, f"/log/piece?{TASK}&log=stdout&before=99999999") == last


def test_a_log_is_searched_as_a_whole(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    fail_with_log(client, hand, bucket, b"the <needle>\n" + b"line\n" * 20_000)

    page = read(client, f"/log?{TASK}&log=stdout&q=NEEDLE")

    assert "1 line in 100.0 kB of 100.0 kB" in squeezed(page.text)
    assert "the <needle>" in page.text
    (there,) = [link for link in page.links if "at=0" in link]
    assert '<mark id="at">the &lt;needle&gt;</mark>' in client.get(there).text
    assert "0 lines" in read(client, f"/log?{TASK}&log=stdout&q={EVIL}").text


def test_a_raw_log_is_text_that_nothing_runs_of(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    log = b"<script>alert(1)</script>\xff\0"
    fail_with_log(client, hand, bucket, log)

    answer = client.get(f"/log/raw?{TASK}&log=stdout")
    saved = client.get(f"/log/raw?{TASK}&log=stdout&save=1")

    assert answer.data == saved.data == log
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(log))
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert answer.headers["Content-Disposition"] == f"inline; filename=job.{HASH}.0.0.stdout.txt"
    assert saved.headers["Content-Disposition"].startswith("attachment; ")


def test_an_empty_log_is_said_to_be(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    fail_with_log(client, hand, bucket, b"")

    assert "The log is empty" in read(client, f"/log?{TASK}&log=stdout").text


@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, "No log was stored"), ({"outcome": Outcome.FAILED, "exit_status": 1, "logs_lost": True}, "was lost")],
    ids=["succeeded", "lost"],
)
def test_a_log_that_is_not_there_is_explained(
    client: FlaskClient, hand: Hand, fields: dict[str, object], words: str
) -> None:
    submit(client, "FooTest")
    hand.run(**fields)  # type: ignore[arg-type]  # any field

    assert words in read(client, f"/log?{TASK}&log=stderr").text


def test_a_running_attempt_has_a_live_log(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest")
    hand.take()

    address = f"/api/v1/jobs/job/tasks/{HASH}.0/log?stream=stderr&amp;attempt=0"

    assert f'data-live-log="{address}"' in client.get(f"/job?{TASK}&log=stderr").text
    assert f"/job?job_id=job&task_id={HASH}.0&attempt=0&log=stderr#log-view" in read(client, "/job?job_id=job").links


def test_artifacts_are_listed_and_handed_out_one_by_one(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logs/a.xml", b"<a/>")
        archive.writestr(f"odd/{EVIL}\r\nX: y.html", b"<script>alert(1)</script>")
    fail_with_artifacts(client, hand, bucket, content.getvalue())

    page = read(client, f"/artifacts?{TASK}")
    answer = client.get(f"/artifact?{TASK}&member=1")

    assert "2 files" in page.text
    assert EVIL in page.text
    assert f"/artifact?{TASK}&member=0" in page.links
    assert f"/download?{TASK}&name=artifacts.zip" in page.links
    assert client.get(f"/artifact?{TASK}&member=0").data == b"<a/>"
    assert answer.data == b"<script>alert(1)</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename=script_X_y.html"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert client.get(f"/artifact?{TASK}&member=2").status_code == 404


def fail_with_artifacts(client: FlaskClient, hand: Hand, bucket: Bucket, archive: bytes) -> None:
    submit(client, "FooTest")
    hand.run(Outcome.FAILED, exit_status=3, artifact_bytes=len(archive))
    store(bucket, archive, "artifacts.zip")


def test_a_damaged_archive_has_a_page_all_the_same(client: FlaskClient, hand: Hand, bucket: Bucket) -> None:
    fail_with_artifacts(client, hand, bucket, b"no zip at all")

    page = read(client, f"/artifacts?{TASK}")

    assert "cannot be listed" in page.text
    assert f"/download?{TASK}&name=artifacts.zip" in page.links
    assert "cannot be read" in read(client, f"/artifact?{TASK}&member=0", 404).text


def test_a_long_list_of_artifacts_is_cut(
    client: FlaskClient, hand: Hand, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_pages, "SHOWN_MEMBERS", 2)
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(3):
            archive.writestr(f"file-{number}", b"")
    fail_with_artifacts(client, hand, bucket, content.getvalue())

    page = read(client, f"/artifacts?{TASK}")

    assert "The first 2 of 3 files" in page.text
    assert "file-2" not in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/job?job_id=job&sort=odd",
        "/job?job_id=job&after=1.2&sort=longest",
        "/job?job_id=job&after=99999999999999999999_1.2&sort=newest",
        "/job?job_id=job&q=" + "x" * 201,
        f"/job?{TASK}&log=secret",
        f"/log?{TASK}&log=stdout&before=-1",
        f"/log?{TASK}&log=stdout&at=x",
        f"/log?{TASK}&log=stdout&q=" + "x" * 201,
        f"/log?{TASK}&log=secret",
        f"/artifact?{TASK}&member=x",
        "/task?job_id=job",
        "/job/cancel",
    ],
)
def test_bad_parameters_get_a_page_that_names_them(client: FlaskClient, hand: Hand, path: str) -> None:
    submit(client, "a")
    hand.run(Outcome.FAILED, exit_status=1, stdout_bytes=1, artifact_bytes=1)

    assert "400" in read(client, path, 400).text


@pytest.mark.parametrize("place", ["log", "log/piece", "log/raw", "artifacts", "artifact"])
def test_what_an_unknown_attempt_left_is_not_found(client: FlaskClient, place: str) -> None:
    submit(client, "a")

    read(client, f"/{place}?job_id=x&task_id={HASH}.0&attempt=0&log=stdout", 404)
    read(client, f"/{place}?job_id=job&task_id={HASH}.0&attempt=7&log=stdout", 404)


def test_an_address_cannot_steer_the_links(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a")
    hand.take()

    page = read(client, f"/job?{TASK}&log=stdout&_scheme=javascript&_external=1&_anchor=x")

    assert all(link.startswith(("/", "#")) for link in page.links)


# What people do


def test_a_cancel_asks_first(client: FlaskClient) -> None:
    submit(client, "a", "b")

    assert "2 of its 2 tasks are not finished" in squeezed(read(client, "/job/cancel?job_id=job").text)
    answer = client.post("/job/cancel", data={"job_id": "job", "reason": EVIL})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/job?job_id=job")
    page = read(client, "/job?job_id=job")
    assert f"Canceled: {EVIL}" in squeezed(page.text)
    assert "ended already" in read(client, "/job/cancel?job_id=job").text


def test_a_cancel_without_a_reason_names_who_did_it(client: FlaskClient) -> None:
    submit(client, "a")

    client.post("/job/cancel", data={"job_id": "job", "reason": " "})

    assert "canceled by 127.0.0.1" in read(client, "/job?job_id=job").text


def test_a_job_that_has_ended_is_not_canceled(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a")
    hand.run()

    answer = client.post("/job/cancel", data={"job_id": "job"})

    assert answer.status_code == 409
    assert "has ended already" in answer.text
    assert client.post("/job/cancel", data={"job_id": "x"}).status_code == 404
    assert client.post("/job/cancel", data={"job_id": "job", "reason": "two\nlines"}).status_code == 400


def test_what_failed_is_run_again_with_the_same_options(client: FlaskClient, hand: Hand) -> None:
    submit(client, "good", "bad", owner="ann", name="nightly", project="kudu", max_failed_tasks=9)
    hand.run()
    hand.run(Outcome.FAILED, exit_status=1)
    assert "Rerun 1 failed task" in read(client, "/job?job_id=job").text

    answer = client.post("/job/rerun", data={"job_id": "job"})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/job?job_id=job.rerun-1")
    again = answered(client, "/api/v1/jobs/job.rerun-1")
    assert [again[key] for key in ("owner", "name", "project", "max_failed_tasks")] == ["ann", "nightly", "kudu", 9]
    entry, _ = hand.take()
    assert (entry.task.description, entry.task.isolate_hash) == ("bad", HASH)


def test_a_rerun_and_its_job_link_to_each_other(client: FlaskClient, hand: Hand) -> None:
    submit(client, "bad")
    hand.run(Outcome.FAILED, exit_status=1)

    for _ in range(2):
        assert client.post("/job/rerun", data={"job_id": "job"}).headers["Location"] == "/job?job_id=job.rerun-1"

    page = read(client, "/job?job_id=job")
    assert "/job?job_id=job.rerun-1" in page.links
    assert "Rerun 1" not in page.text
    assert "/job?job_id=job" in read(client, "/job?job_id=job.rerun-1").links
    assert answered(client, "/api/v1/jobs")["jobs"][1]["job_id"] == "job"
    hand.run(Outcome.FAILED, exit_status=1)
    assert client.post("/job/rerun", data={"job_id": "job.rerun-1"}).headers["Location"].endswith("job.rerun-2")


def test_a_rerun_by_somebody_is_theirs(stranger: FlaskClient, client: FlaskClient, hand: Hand) -> None:
    submit(client, "bad", owner="ben")
    hand.run(Outcome.FAILED, exit_status=1)
    challenge = Challenge.of(stranger.post("/job/rerun", data={"job_id": "job"}).headers["WWW-Authenticate"])

    header = {"Authorization": digest_header("POST", "/job/rerun", challenge.nonce)}
    answer = stranger.post("/job/rerun", data={"job_id": "job"}, headers=header)

    assert answer.status_code == 303
    assert answered(client, "/api/v1/jobs/job.rerun-1")["owner"] == "ann"


def test_what_did_not_fail_is_not_run_again(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a")

    running = client.post("/job/rerun", data={"job_id": "job"})
    hand.run()
    good = client.post("/job/rerun", data={"job_id": "job"})

    assert (running.status_code, good.status_code) == (409, 409)
    assert "has not ended yet" in running.text
    assert "no task of job job failed" in good.text
    assert client.post("/job/rerun", data={"job_id": "x"}).status_code == 404


HOST = {"Host": "dist-test.example:8081"}
ACTIONS = ("/job/cancel", "/job/rerun")
FORGED: tuple[dict[str, str], ...] = (
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://dist-test.example"},  # another port
    {"Origin": "http://dist-test.example.evil.example:8081"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "http://dist-test.example:8081", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
)


@pytest.mark.parametrize("path", ACTIONS)
@pytest.mark.parametrize("headers", FORGED, ids=str)
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_a_form_of_another_site_does_nothing(
    client: FlaskClient, path: str, headers: dict[str, str], content_type: str
) -> None:
    submit(client, "a")

    data = {"data": {"job_id": "job"}} if content_type != "text/plain" else {"data": "job_id=job"}
    answer = client.post(path, **data, content_type=content_type, headers=HOST | headers)

    assert answer.status_code == 403
    assert answered(client, "/api/v1/jobs/job")["state"] == "running"


@pytest.mark.parametrize("headers", FORGED[:2], ids=str)
def test_credentials_that_a_browser_adds_do_not_help_another_site(
    client: FlaskClient, stranger: FlaskClient, headers: dict[str, str]
) -> None:
    submit(client, "a")
    challenge = Challenge.of(stranger.post("/job/cancel", data={"job_id": "job"}).headers["WWW-Authenticate"])
    header = {"Authorization": digest_header("POST", "/job/cancel", challenge.nonce)}

    answer = stranger.post("/job/cancel", data={"job_id": "job"}, headers=HOST | headers | header)

    assert answer.status_code == 403
    assert answered(client, "/api/v1/jobs/job")["state"] == "running"


@pytest.mark.parametrize("path", ACTIONS)
def test_a_get_does_nothing(client: FlaskClient, path: str) -> None:
    submit(client, "a")

    answer = client.get(f"{path}?job_id=job", headers={"Accept": "text/html"})

    assert answer.status_code == (200 if path == "/job/cancel" else 405)
    assert answered(client, "/api/v1/jobs/job")["state"] == "running"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://dist-test.example:8081"},
        {"Origin": "https://dist-test.example:8081", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=["program", "browser", "browser behind a proxy"],
)
def test_our_own_form_and_a_program_may(client: FlaskClient, headers: dict[str, str]) -> None:
    submit(client, "a")

    assert client.post("/job/cancel", data={"job_id": "job"}, headers=HOST | headers).status_code == 303


@pytest.mark.parametrize("path", ACTIONS)
def test_strangers_are_asked_for_a_password(stranger: FlaskClient, client: FlaskClient, path: str) -> None:
    submit(client, "a")

    answer = stranger.post(path, data={"job_id": "job"}, headers=HOST | {"Origin": "http://dist-test.example:8081"})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Digest ")
    assert stranger.get("/job/cancel?job_id=job").status_code == 200
    assert stranger.environ_base["REMOTE_ADDR"] == STRANGER
