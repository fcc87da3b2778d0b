"""Audits over HTTP, on the job's page and in the background."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from dist_test.errors import AuditInProgress, AuditTooLarge
from dist_test.master import audit_desk, audit_turns
from dist_test.master.audit_desk import AuditDesk
from dist_test.master.audit_turns import AuditTurns
from dist_test.model.outcome import Outcome
from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.queue import Queue, Queues

from .conftest import Hand, job_document
from .test_operations import values
from .test_pages import read, submit
from .test_pages_job import squeezed


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Leader:
    """Leads, or not."""

    def __init__(self) -> None:
        self.leads = True

    def holds(self) -> bool:
        return self.leads


@pytest.fixture
def broken(client: FlaskClient, hand: Hand, database: Database) -> None:
    """A job that is in order, and one that lost the event of its end."""
    submit(client, "FooTest", job_id="good")
    hand.run()
    submit(client, "FooTest", "BarTest")
    hand.run(Outcome.FAILED, exit_status=3)
    damage(database, "DELETE FROM events WHERE kind = 'finished' ORDER BY event_id DESC LIMIT 1")


def damage(database: Database, statement: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(text(statement))


def asked(client: FlaskClient, path: str, status: int = 200) -> Any:
    """The JSON at an address."""
    answer = client.get(path)
    assert answer.status_code == status
    return answer.json


def audited(client: FlaskClient, query: str = "") -> Any:
    return asked(client, f"/api/v1/audit{query}")


@pytest.mark.usefixtures("broken")
def test_the_audit_of_a_job_adds_up_and_names_its_breaches(client: FlaskClient) -> None:
    document = audited(client, "?job_id=job")
    [job] = document["jobs"]
    assert (document["is_clean"], document["left_out"], document["ownerless_entries"]) == (False, [], 0)
    assert {key: job[key] for key in ("job_id", "tasks", "ended", "running", "queued", "unasked")} == {
        "job_id": "job",
        "tasks": 2,
        "ended": 1,
        "running": 0,
        "queued": 1,
        "unasked": 0,
    }
    [breach] = job["breaches"]
    assert breach["reason"] == "it was finished 0 times, its outcome is failed"
    assert breach["attempt"] == 0
    assert [event["kind"] for event in breach["events"]] == ["claimed"]


@pytest.mark.usefixtures("broken")
def test_without_a_job_all_that_run_and_the_last_are_audited(client: FlaskClient) -> None:
    document = audited(client)
    assert [(job["job_id"], len(job["breaches"])) for job in document["jobs"]] == [("good", 0), ("job", 1)]
    assert audited(client, "?job_id=")["jobs"] == document["jobs"]


def test_an_audit_of_nothing_is_not_found(client: FlaskClient) -> None:
    assert asked(client, "/api/v1/audit?job_id=none", 404)["error"]["code"] == "not_found"


def test_reading_an_audit_needs_no_account(stranger: FlaskClient) -> None:
    assert audited(stranger)["jobs"] == []


@pytest.fixture
def desk(master_database: Database, queues: Queues) -> AuditDesk:
    """A desk that looks at what is young as well."""
    return AuditDesk(master_database, queues, grace=timedelta(0))


def test_a_job_that_is_too_large_is_refused_with_what_to_run(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_desk, "MOST_ATTEMPTS", 2)
    submit(client, "a", "b", "c")
    error = asked(client, "/api/v1/audit?job_id=job", 413)["error"]
    assert error["code"] == "too_large"
    assert "dist-test-master audit job" in error["message"]
    assert audited(client)["left_out"] == ["job"]


def test_jobs_for_which_there_was_no_time_are_named(
    client: FlaskClient, master_database: Database, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "third"):
        submit(client, "a", job_id=name)
    seconds = iter([0.0, 1.0, 99.0, 99.0])
    late = AuditDesk(master_database, queues, grace=timedelta(0), clock=lambda: next(seconds))
    audit = late.all()
    assert [report.job_id for report in audit.reports] == ["first"]
    assert audit.left_out == ("second", "third")


def test_one_audit_at_a_time_is_enough(client: FlaskClient, desk: AuditDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(client, "a")
    started, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> int:
        started.set()
        assert go_on.wait(30)
        return 0

    monkeypatch.setattr(audit_desk, "ownerless_entries", slow)
    first = threading.Thread(target=desk.one, args=("job",))
    first.start()
    assert started.wait(30)
    with pytest.raises(AuditInProgress):
        desk.all()
    go_on.set()
    first.join()
    assert desk.one("job").is_clean


def test_a_desk_asks_about_no_more_entries_than_it_may(
    client: FlaskClient, desk: AuditDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_desk, "MOST_ASKED", 2)
    submit(client, "a", "b", "c")
    [report] = desk.one("job").reports
    assert (report.queued, report.unasked) == (3, 1)


@pytest.mark.usefixtures("broken")
def test_the_page_shows_the_sum_and_the_chains(client: FlaskClient) -> None:
    text = squeezed(read(client, "/job/audit?job_id=job").text)
    assert "1 breach" in text
    assert "2 tasks = 1 ended + 0 running + 1 queued" in text
    assert "It was finished 0 times, its outcome is failed." in text
    assert "claimed" in text
    good = squeezed(read(client, "/job/audit?job_id=good").text)
    assert "clean 1 tasks = 1 ended + 0 running + 0 queued" in good
    assert 'href="/job/audit?job_id=job"' in client.get("/job?job_id=job").text


def test_the_page_of_an_unknown_job_is_not_found(client: FlaskClient) -> None:
    assert client.get("/job/audit?job_id=none").status_code == 404


def test_junk_is_told_on_the_page(client: FlaskClient, queue: Queue) -> None:
    submit(client, "a")
    queue.put("junk", priority=1)
    assert "The queue holds 1 entry that no unfinished attempt" in squeezed(read(client, "/job/audit?job_id=job").text)


def test_a_promoted_job_says_so(client: FlaskClient, queues: Queues, service: Any) -> None:
    submit(client, "a")
    assert asked(client, "/api/v1/jobs/job")["promoted_at"] is None
    service.promote("job")
    assert asked(client, "/api/v1/jobs/job")["promoted_at"].endswith("Z")
    assert "ahead of all other jobs" in client.get("/job?job_id=job").text
    assert asked(client, "/api/v1/jobs")["jobs"][0]["promoted_at"] is not None


@pytest.fixture
def turns(settings: MasterSettings, master_database: Database, queues: Queues) -> Iterator[AuditTurns]:
    """Turns of one who leads, at a time that the test sets."""
    soon = replace(settings, queued_grace=timedelta(0))
    turns = AuditTurns(soon, master_database, queues, Leader(), clock=Clock())
    yield turns
    for gauge in (audit_turns.BREACHES, audit_turns.JOBS, audit_turns.AT):
        gauge.set(0)


@pytest.mark.usefixtures("broken")
def test_turns_audit_one_job_after_another_and_count_what_is_wrong(
    client: FlaskClient, turns: AuditTurns, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def figures() -> tuple[float, float]:
        found = values(client.get("/metrics").text)
        return found["dist_test_audit_jobs", ""], found["dist_test_audit_breaches", ""]

    turns.turn()
    assert figures() == (1, 0)
    turns.turn()
    assert figures() == (2, 1)
    assert "For all of them run: dist-test-master audit job" in caplog.text
    assert values(client.get("/metrics").text)["dist_test_audit_timestamp_seconds", ""] > 1.7e9
    damage(
        database,
        "INSERT INTO events (job_key, task_index, attempt, kind, actor, claim, detail)"
        " SELECT job_key, task_index, attempt, 'finished', actor, claim, 'failed' FROM events"
        " WHERE kind = 'claimed' ORDER BY event_id DESC LIMIT 1",
    )
    for _ in range(2):
        turns.turn()
    assert figures() == (2, 0)


def test_turns_rest_in_proportion_to_what_they_cost(
    client: FlaskClient, turns: AuditTurns, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client, "a")
    audited_keys: list[int] = []

    def audit(key: int) -> None:
        audited_keys.append(key)
        turns._clock.now += 3  # type: ignore[attr-defined]  # the test's own

    monkeypatch.setattr(turns, "_audit", audit)
    turns.turn()
    turns._clock.now += 3 * audit_turns.REST - 1  # type: ignore[attr-defined]  # the test's own
    turns.turn()
    assert len(audited_keys) == 1
    turns._clock.now += 1  # type: ignore[attr-defined]  # the test's own
    turns.turn()
    assert len(audited_keys) == 2


def test_who_does_not_lead_audits_nothing(client: FlaskClient, turns: AuditTurns) -> None:
    submit(client, "a")
    turns._leader.leads = False  # type: ignore[attr-defined]  # the test's own
    turns.turn()
    assert turns._found == {}


def test_a_job_that_was_pruned_is_forgotten(client: FlaskClient, turns: AuditTurns, database: Database) -> None:
    submit(client, "a")
    submit(client, "b", job_id="gone")
    turns.turn()
    damage(database, "DELETE FROM jobs WHERE job_id = 'gone'")
    turns.turn()
    assert len(turns._found) == 1


def test_a_job_too_large_for_the_desk_is_named_by_its_error(
    client: FlaskClient, desk: AuditDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post("/api/v1/jobs", json=job_document("a", "b"))
    monkeypatch.setattr(audit_desk, "MOST_ATTEMPTS", 1)
    with pytest.raises(AuditTooLarge, match="job job has 2 attempts"):
        desk.one("job")
