"""What operators see, also while a server that the master stands on is away."""

from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from dist_test.local.ports import free_port as choose_free_port
from dist_test.master.application import create_app
from dist_test.master.auth import open_to_all
from dist_test.master.service import Service
from dist_test.settings import MasterSettings
from dist_test.storage.database import Database
from dist_test.storage.queue import Queues
from dist_test.storage.results import Bucket
from dist_test.storage.slaves import SlaveDescription, Slaves

from .conftest import Hand, job_document, job_form


def no_sleep(_: float) -> None:
    """For clients that wait between two tries."""


@pytest.fixture
def without_database(settings: MasterSettings, queues: Queues, bucket: Bucket) -> FlaskClient:
    """A master whose database is away."""
    database = Database(replace(settings.mysql, port=choose_free_port()), sleep=no_sleep)
    return _client(settings, database, queues, bucket)


@pytest.fixture
def without_queue(settings: MasterSettings, master_database: Database, bucket: Bucket) -> FlaskClient:
    """A master whose beanstalkd is away."""
    return _client(settings, master_database, Queues(replace(settings.beanstalk, port=choose_free_port())), bucket)


def _client(settings: MasterSettings, database: Database, queues: Queues, bucket: Bucket) -> FlaskClient:
    service = Service(settings, database, queues)
    app: Flask = create_app(settings, service=service, database=database, queues=queues, results=bucket)
    return app.test_client()


def values(text: str) -> dict[tuple[str, str], float]:
    """The figures of /metrics by name and the values of their labels."""
    return {
        (sample.name, " ".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_stats_count_the_queue_the_work_and_the_slaves(
    client: FlaskClient, hand: Hand, slave_database: Database
) -> None:
    Slaves(slave_database).register(
        SlaveDescription(slave_id="s", instance_id="", zone="", mig="", template="", slots=1, version="")
    )
    client.post("/api/v1/jobs", json=job_document("a", "b", "c"))
    hand.take()

    assert client.get("/stats").json == {
        "queue": {"ready": 2, "reserved": 0, "delayed": 0, "buried": 0},
        "attempts": {"queued": 2, "running": 1},
        "jobs": {"running": 1, "submitting": 0},
        "slaves": {"live": 1, "idle": 1, "draining": 0},
    }


def test_a_master_that_could_take_a_job_is_healthy(client: FlaskClient) -> None:
    answer = client.get("/healthz")

    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_a_master_without_its_servers_is_not_healthy(without_database: FlaskClient, without_queue: FlaskClient) -> None:
    for client, server in ((without_database, "database"), (without_queue, "queue")):
        answer = client.get("/healthz")
        assert answer.status_code == 503
        assert answer.json == {"status": "unavailable", "problems": [server]}


def test_metrics_count_requests_by_route_and_status(client: FlaskClient) -> None:
    before = values(client.get("/metrics").text)
    client.get("/api/v1/jobs/nobody")
    client.get("/api/v1/jobs/knows")
    after = values(client.get("/metrics").text)

    key = ("dist_test_master_requests_total", "/api/v1/jobs/<job_id> 404")
    assert after[key] - before.get(key, 0) == 2


def test_metrics_tell_the_state_of_the_cluster(client: FlaskClient, hand: Hand) -> None:
    client.post("/api/v1/jobs", json=job_document("a", "b", "c"))
    hand.take()

    found = values(client.get("/metrics").text)

    assert found["dist_test_queue_entries", "ready"] == 2
    assert found["dist_test_attempts", "queued"] == 2
    assert found["dist_test_attempts", "running"] == 1
    assert found["dist_test_jobs", "running"] == 1
    assert found["dist_test_up", "database"] == 1


def test_metrics_survive_what_they_measure(without_database: FlaskClient, without_queue: FlaskClient) -> None:
    assert values(without_database.get("/metrics").text)["dist_test_up", "database"] == 0
    found = values(without_queue.get("/metrics").text)
    assert (found["dist_test_up", "queue"], found["dist_test_up", "database"]) == (0, 1)


def test_an_outage_is_told_in_each_paths_own_way_and_without_our_secrets(
    without_database: FlaskClient, settings: MasterSettings
) -> None:
    answers = [
        without_database.post("/api/v1/jobs", json=job_document("a")),
        without_database.post("/submit_job", data=job_form("a")),
        without_database.get("/"),
    ]

    for answer in answers:
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert settings.mysql.host not in answer.text
    assert answers[0].json is not None
    assert answers[0].json["error"]["code"] == "unavailable"
    assert answers[1].json is not None
    assert answers[1].json["status"] == "ERROR"
    assert "<h1>503" in answers[2].text


def test_a_queue_that_is_away_is_an_outage_and_the_job_is_taken_later(
    without_queue: FlaskClient, client: FlaskClient
) -> None:
    assert without_queue.post("/api/v1/jobs", json=job_document("a")).status_code == 503
    assert client.post("/api/v1/jobs", json=job_document("a")).status_code == 201


def test_a_failure_nobody_thought_of_is_told_without_its_details(app: Flask) -> None:
    @open_to_all
    def fail() -> str:
        raise ZeroDivisionError("the secret")

    for path in ("/api/v1/fail", "/fail"):
        app.add_url_rule(path, view_func=fail)
    app.testing = False
    client = app.test_client()

    for path in ("/api/v1/fail", "/fail"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert "secret" not in answer.text
