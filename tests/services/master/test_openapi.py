"""The description of the API and the API agree: in a master's answers, and under what a fuzzer thinks of."""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import requests
from flask.testing import FlaskClient
from hypothesis import settings as hypothesis_settings
from sqlalchemy import text

from dist_test.local.program import beside_python
from dist_test.master.openapi_operations import OPERATIONS
from dist_test.master.openapi_page import curl
from dist_test.model.outcome import Outcome
from dist_test.storage.database import Database
from dist_test.storage.slaves import SlaveDescription, Slaves

from .conftest import PASSWORD, USER, Hand, MakeMaster, job_document

HOOKS = Path(__file__).with_name("fuzzing_with_digest.py")
# For each operation, beside those at the limits. `pytest --hypothesis-profile=NAME` takes the profile's number.
EXAMPLES = 10
DEFAULT_PROFILES = ("default", "ci")
_CASES = re.compile(r"^ *(?:Test cases|Operations|Failures).*$|^=+ .* in .*=+$", re.MULTILINE)
REFUSALS = [400, 401, 403, 404, 405, 409, 413, 414]
SLAVE = SlaveDescription(slave_id="slave-1", instance_id="", zone="", mig="", template="", slots=2, version="1")


def closed(schema: Any) -> Any:
    """The schema with no keys allowed but those that it names."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    return found | {"additionalProperties": False} if schema.get("type") == "object" else found


def assert_described(document: dict[str, Any], name: str, answer: Any) -> None:
    """The answer has the keys of the schema, all of them, and values that it allows."""
    components = {"schemas": closed(document["components"]["schemas"])}
    jsonschema_rs.validate({"$ref": f"#/components/schemas/{name}", "components": components}, answer)


@pytest.fixture
def description(client: FlaskClient) -> dict[str, Any]:
    """The document as it is served."""
    answer = client.get("/api/v1/openapi.json")
    assert isinstance(answer.json, dict)
    return answer.json


@pytest.fixture
def busy(client: FlaskClient, hand: Hand, slave_database: Database) -> None:
    """A slave, a job with attempts of all kinds, one that was canceled."""
    Slaves(slave_database).register(SLAVE)
    client.post("/api/v1/jobs", json=job_document("a", "b", "c", "d", max_retries=1, max_failed_tasks=3))
    for outcome, exit_status in ((Outcome.FAILED, 3), (Outcome.SUCCEEDED, 0), (Outcome.TIMED_OUT, -9)):
        hand.run(outcome, exit_status=exit_status, duration_seconds=1.5, stdout_bytes=1, artifact_bytes=2, message="x")
    hand.take()
    client.post("/api/v1/jobs", json=job_document("a", job_id="other"))
    client.post("/api/v1/jobs/other/cancel", json={"reason": "why not"})


def test_an_audit_with_breaches_has_the_keys_and_values_of_its_schema(
    client: FlaskClient, description: dict[str, Any], hand: Hand, database: Database
) -> None:
    client.post("/api/v1/jobs", json=job_document("a", "b"))
    hand.run(Outcome.FAILED, exit_status=3)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE attempts SET claim = 7 WHERE claim = 1"))
        connection.execute(text("UPDATE jobs SET finished_tasks = 0"))

    document = client.get("/api/v1/audit").json

    assert document is not None
    assert len(document["jobs"][0]["breaches"]) == 2
    assert_described(description, "Audit", document)


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/jobs", "Jobs"),
        ("/api/v1/jobs?limit=1", "Jobs"),
        ("/api/v1/jobs/job", "Job"),
        ("/api/v1/jobs/other", "Job"),
        ("/api/v1/jobs/job/attempts", "Attempts"),
        ("/api/v1/jobs/job/attempts?limit=1", "Attempts"),
        ("/api/v1/jobs/job/tasks/0/log", "Log"),
        ("/api/v1/jobs/job/tasks/3/log?encoding=base64&stream=stderr", "Log"),
        ("/api/v1/audit", "Audit"),
        ("/api/v1/audit?job_id=job", "Audit"),
        ("/api/v1/audit?job_id=none", "Error"),
        ("/api/v1/slaves", "Slaves"),
        ("/stats", "Stats"),
        ("/healthz", "Health"),
        ("/api/v1/jobs/none", "Error"),
        ("/api/v1/nonsense", "Error"),
    ],
)
def test_an_answer_has_the_keys_and_values_of_its_schema(
    client: FlaskClient, description: dict[str, Any], path: str, name: str
) -> None:
    assert_described(description, name, client.get(path).json)


def test_the_page_has_every_operation_parameter_and_error(client: FlaskClient, description: dict[str, Any]) -> None:
    page = client.get("/api/v1/").text

    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            assert f"<code>{method.upper()} {path}</code>" in page
            for parameter in operation.get("parameters", ()):
                assert f"<code>{parameter['name']}</code>" in page
    targets = set(re.findall(r'href="#([^"]+)"', page))
    assert targets <= set(re.findall(r'\bid="([^"]+)"', page))
    assert client.get("/api/v1").headers["Location"].endswith("/api/v1/")


def test_the_commands_of_the_page_work(make_master: MakeMaster) -> None:
    master = make_master()
    page = unescape(requests.get(f"{master.url}/api/v1/", timeout=10).text)

    for operation in OPERATIONS:
        command = curl(operation, master.url)
        assert command in page
        done = subprocess.run(["sh", "-c", f"{command} --silent --noproxy '*'"], capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


Fuzz = Callable[..., None]


@pytest.fixture
def fuzz(tmp_path: Path, fuzz_seconds: float | None, tell: Callable[[str], None]) -> Fuzz:
    """Try what schemathesis thinks of, and hold every answer against the description."""

    def run(url: str, *options: str, **environ: str) -> None:
        done = run_schemathesis(url, tmp_path, *_extent(fuzz_seconds), *options, **environ)
        print(done.stdout)
        if fuzz_seconds is not None:
            tell("\n".join(["schemathesis", *_CASES.findall(done.stdout)]))
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def _extent(seconds: float | None) -> Sequence[str]:
    """How much of it, as schemathesis's options."""
    if seconds is not None:
        return "--max-time", str(max(1, int(seconds)))
    chosen = hypothesis_settings.get_current_profile_name()
    if chosen in DEFAULT_PROFILES:
        # Always the same ones: who has changed nothing should see nothing new.
        return "--max-examples", str(EXAMPLES), "--seed", "1"
    return "--max-examples", str(hypothesis_settings().max_examples)


def run_schemathesis(url: str, directory: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the program with all its checks; give what it printed and how it ended."""
    # Besides its own list of refusals, that of a line which is too long for the server.
    (directory / "schemathesis.toml").write_text(f"[checks.negative_data_rejection]\nexpected-statuses = {REFUSALS}\n")
    command = [
        *(beside_python("schemathesis"), "--no-color", "run", f"{url}/api/v1/openapi.json"),
        *("--checks", "all", "--continue-on-failure", *options),
    ]
    return subprocess.run(
        command, cwd=directory, env=os.environ | environ, capture_output=True, text=True, check=False, timeout=3600
    )


def test_a_fuzzer_on_an_allowed_address_finds_no_disagreement(fuzz: Fuzz, make_master: MakeMaster) -> None:
    fuzz(make_master().url)


def test_a_fuzzer_with_credentials_finds_no_disagreement(fuzz: Fuzz, make_master: MakeMaster) -> None:
    master = make_master(DIST_TEST_ALLOWED_IP_RANGES="192.0.2.0/24")
    environ = {"SCHEMATHESIS_HOOKS": str(HOOKS), "FUZZING_USER": USER, "FUZZING_PASSWORD": PASSWORD}

    # What is at the limits is no different for whom a password is asked.
    fuzz(master.url, "--include-method", "POST", "--phases", "examples,fuzzing,stateful", **environ)

    jobs = requests.get(f"{master.url}/api/v1/jobs?limit=500", timeout=10).json()["jobs"]
    assert {job["owner"] for job in jobs} == {USER}
