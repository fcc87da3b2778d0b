"""The pages of a trace, of tests and of their history, as HTML and JSON."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from dist_test.master.pages import history, trace
from dist_test.model.outcome import Outcome

from ...trace_rules import broken_rules
from .conftest import HASH, Hand
from .test_pages import EVIL, read, submit


def spans(client: FlaskClient, **parameters: Any) -> dict[str, Any]:
    """The columns of a job's attempts."""
    answer = client.get("/trace/attempts", query_string={"job_id": "job", **parameters})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = json.loads(answer.text)
    return found


def states(answer: dict[str, Any]) -> dict[str, str]:
    """What the columns say of each test."""
    return {test: answer["states"][code] for test, code in zip(answer["test"], answer["state"], strict=True)}


def flake(client: FlaskClient, hand: Hand, description: str, **fields: object) -> None:
    """A job whose test fails and then succeeds."""
    submit(client, description, max_retries=1, **fields)
    entry, claim = hand.run(Outcome.FAILED, exit_status=3, duration_seconds=4.5, stderr_bytes=9, message="it broke")
    names = {"job_id": "job", "task_id": entry.task_id, "attempt": 0, "claim": claim.number}
    client.post("/retry_task", data={"task_json": json.dumps(names)})
    hand.run(duration_seconds=1.5)


def test_a_trace_says_the_same_in_tables(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest", "BarTest")
    hand.run(Outcome.FAILED, exit_status=1, duration_seconds=61.0)

    page = read(client, "/trace?job_id=job")

    assert "slave-1" in page.text
    assert "0:01:01" in page.text
    assert any(link.startswith(f"/task?job_id=job&task_id={HASH}.0&attempt=0&log=") for link in page.links)
    assert "BarTest" not in page.text


def test_a_job_that_waits_has_an_empty_trace_page(client: FlaskClient) -> None:
    submit(client, "a")

    assert "Nothing has started yet." in read(client, "/trace?job_id=job").text


def test_the_end_of_a_job_is_explained(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest")
    hand.run(duration_seconds=1.0)

    assert "FooTest ended last, on slave-1." in read(client, "/trace?job_id=job").text


def test_columns_of_attempts_have_all_that_waits_runs_and_has_ended(client: FlaskClient, hand: Hand) -> None:
    submit(client, "ran", "runs", "waits")
    hand.run(Outcome.FAILED, exit_status=1)
    hand.take()

    answer = spans(client)

    assert sorted(states(answer).values()) == ["failed", "running", "waiting"]
    assert answer["slaves"] == ["slave-1"]
    assert (answer["next"], answer["is_live"]) == (None, True)
    assert all(len(answer[name]) == 3 for name in ("task", "attempt", "slave", "queued", "started", "ended"))


def test_columns_come_in_pages(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "SPANS_PER_ANSWER", 2)
    submit(client, "a", "b", "c")

    first = spans(client)
    second = spans(client, after=first["next"])

    assert first["test"] + second["test"] == ["a", "b", "c"]
    assert second["next"] is None


def test_only_what_has_changed_is_told_again(client: FlaskClient, hand: Hand) -> None:
    submit(client, "a", "b")
    before = spans(client)
    hand.run()

    after = spans(client, since=before["now"])

    assert len(after["test"]) == 1
    assert list(states(after).values()) == ["succeeded"]


def test_columns_are_compressed_for_whoever_reads_that(client: FlaskClient) -> None:
    submit(client, "a")

    packed = client.get("/trace/attempts?job_id=job", headers={"Accept-Encoding": "gzip"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert packed.data[:2] == b"\x1f\x8b"
    assert "Content-Encoding" not in client.get("/trace/attempts?job_id=job").headers


def test_the_download_keeps_the_rules_of_trace_events(client: FlaskClient, hand: Hand) -> None:
    flake(client, hand, "FooTest")
    answer = client.get("/trace.json?job_id=job")

    document = json.loads(answer.text)

    assert broken_rules(document) == []
    assert {event["name"] for event in document["traceEvents"] if event["ph"] == "X"} == {"FooTest"}
    assert "attachment" in answer.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/tests?days=0", "days"),
        ("/tests?days=400", "days"),
        ("/tests?project=p&sort=odd", "sort"),
        ("/tests?project=p&page=0", "page"),
        ("/tests?project=p&q=" + "x" * 201, "q"),
        ("/test?project=p", "description"),
        ("/test?description=d", "project"),
        ("/test?project=p&description=d&outcome=odd", "outcome"),
        ("/flaky", "project"),
        ("/flaky?project=p&sort=odd", "sort"),
        ("/trace", "job_id"),
    ],
)
def test_a_mistake_gets_a_page_that_names_it(client: FlaskClient, path: str, named: str) -> None:
    assert named in read(client, path, 400).text


@pytest.mark.parametrize(
    "query", ["after=x", "since=x", "since=-1", "after=0.0&since=1"], ids=["after", "since", "negative", "both"]
)
def test_columns_are_refused_with_a_reason(client: FlaskClient, query: str) -> None:
    submit(client, "a")

    assert client.get(f"/trace/attempts?job_id=job&{query}").status_code == 400
    assert client.get(f"/trace/attempts?job_id=nobody&{query}").status_code in (400, 404)


def test_an_empty_cluster_has_pages_of_tests(client: FlaskClient) -> None:
    assert "No jobs in these days" in read(client, "/tests").text
    assert "No tests like that" in read(client, "/tests?project=p").text
    assert "No flaky tests" in read(client, "/flaky?project=p").text
    assert "No runs like that" in read(client, "/test?project=p&description=d").text


def test_tests_are_found_from_the_list_of_projects(client: FlaskClient, hand: Hand) -> None:
    flake(client, hand, "FooTest", project="hdfs")
    hand.learn()

    (projects,) = [link for link in read(client, "/tests").links if link.startswith("/tests?project=hdfs")]
    page = read(client, projects)

    assert "FooTest" in page.text
    assert "50.0 %" in page.text
    assert any(link.startswith("/test?project=hdfs&description=FooTest") for link in page.links)
    assert any(link.startswith("/task?job_id=job&task_id=0&attempt=0") for link in page.links)


def test_tests_are_paged_and_the_search_stays(client: FlaskClient, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "TESTS_PER_PAGE", 2)
    submit(client, "a1", "a2", "a3", "b1", project="hdfs")
    for _ in range(4):
        hand.run(duration_seconds=1.0)
    hand.learn()

    first = read(client, "/tests?project=hdfs&q=a&sort=name")
    (following,) = [link for link in first.links if "page=2" in link]
    second = read(client, following)

    assert "q=a" in following
    assert ("a2" in first.text, "a3" in first.text) == (True, False)
    assert "a3" in second.text
    assert "b1" not in second.text


def test_the_history_of_a_test_has_figures_runs_and_failures(client: FlaskClient, hand: Hand) -> None:
    flake(client, hand, "FooTest", project="hdfs")
    hand.learn()

    page = read(client, "/test?project=hdfs&description=FooTest")

    text = " ".join(page.text.split())
    assert "2runs in 30 days" in text
    assert "50.0 %passed" in text
    assert "1flaky" in text
    assert "it broke" in text
    assert "expected next" in text
    assert "/job?job_id=job" in page.links


@pytest.mark.parametrize(("outcome", "count"), [("", 2), ("failed", 1), ("succeeded", 1), ("flaky", 1), ("other", 0)])
def test_runs_are_filtered_by_outcome(client: FlaskClient, hand: Hand, outcome: str, count: int) -> None:
    flake(client, hand, "FooTest", project="hdfs")

    text = read(client, f"/test?project=hdfs&description=FooTest&outcome={outcome}").text

    assert f"{count} of the newest 2 runs" in text


def test_a_flaky_test_is_ranked_with_what_it_cost(client: FlaskClient, hand: Hand) -> None:
    flake(client, hand, "FooTest", project="hdfs")

    for sort in ("rate", "cost"):
        page = read(client, f"/flaky?project=hdfs&sort={sort}")

        assert "1 of 1" in page.text
        assert "4.50 s" in page.text
        assert any(link.startswith("/test?project=hdfs&description=FooTest") for link in page.links)


def test_names_with_markup_are_text_on_every_page(client: FlaskClient, hand: Hand) -> None:
    flake(client, hand, EVIL, project=EVIL)
    hand.learn()
    names = {"project": EVIL, "description": EVIL}

    for path in ("/tests", "/test", "/flaky", "/trace"):
        answer = client.get(path, query_string={**names, "job_id": "job"})

        assert answer.status_code == 200
        assert "<script>alert" not in answer.text


def test_a_job_links_its_tests_to_their_history(client: FlaskClient, hand: Hand) -> None:
    submit(client, "FooTest", project="hdfs")
    hand.run()

    assert "/test?project=hdfs&description=FooTest" in read(client, "/job?job_id=job").links
    assert "/test?project=hdfs&description=FooTest" in read(client, f"/task?job_id=job&task_id={HASH}.0").links
