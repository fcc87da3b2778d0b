"""The reference says what the code does: generated pages are up to date, written ones leave nothing out."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import pytest
from flask import Flask

from dist_test.cli.exit_status import ExitStatus
from dist_test.isolate.server.content import content
from dist_test.isolate.server.service import service
from dist_test.isolate.server.v1 import v1
from dist_test.master.api import api
from dist_test.master.documents import attempt_document, job_document
from dist_test.master.openapi_page import openapi
from dist_test.master.operations import operations
from dist_test.master.original import original
from dist_test.master.pages import web
from dist_test.model import job as job_format
from dist_test.model.outcome import Outcome
from dist_test.model.summary import Counters
from dist_test.model.task import AttemptKey
from dist_test.settings.catalog import BY_NAME, CATALOG, SECTIONS
from dist_test.storage.jobs import AttemptFilter, AttemptRecord, JobRecord
from dist_test_autoscale.command import ExitStatus as AutoscalerStatus

Record = TypeVar("Record", JobRecord, AttemptRecord)

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Words of the form section.key that name something else.
FILES_AND_MODULES = {"slave.log", "dist_test.cnf", "isolate.client"}
VARIABLES_OF_OTHERS = {"DIST_TEST_CNF", "DIST_TEST_HOME", "DIST_TEST_JOB_ID", "DIST_TEST_TASK_ID", "DIST_TEST_ATTEMPT"}


def with_nothing(record: type[Record], **values: Any) -> Record:
    """A record whose fields are None but for these: only the keys of its document matter here."""
    nothing: dict[str, Any] = {field.name: None for field in fields(record)}
    return record(**nothing | values)


JOB = with_nothing(JobRecord, job_id="demo.ann.1700000000.1", counters=Counters())
ATTEMPT = with_nothing(AttemptRecord, key=AttemptKey(1, 0, 0), state="queued")


class NoResults:
    """A store of which nothing is asked: the attempt has stored nothing."""

    def presign_get(self, key: str, *, seconds: int = 0, filename: str | None = None) -> str:
        raise AssertionError(f"{key} was signed for {seconds} s as {filename}")


def generate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(REFERENCE / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_generated_pages_are_what_the_generator_writes() -> None:
    checked = generate("--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_generated_page_that_is_out_of_date_is_named(tmp_path: Path) -> None:
    pages = (
        "settings.md",
        "autoscaler-settings.md",
        "schema.md",
        "rights.md",
        "command-line.md",
        "inventory.md",
        "http-api.md",
    )
    for name in pages:
        shutil.copy(REFERENCE / name, tmp_path)
    (tmp_path / "schema.md").write_text("old")
    checked = generate("--check", "--output", str(tmp_path))
    assert (checked.returncode, checked.stdout) == (1, f"out of date, run make docs: {tmp_path / 'schema.md'}\n")


def routes() -> Iterator[str]:
    app = Flask("reference")
    for blueprint in (api, openapi, original, operations, web, content, service):
        app.register_blueprint(blueprint)
    app.register_blueprint(v1, url_prefix="/_ah/api/isolateservice/v1")
    return (rule.rule for rule in app.url_map.iter_rules())


@pytest.mark.parametrize("route", sorted(set(routes())))
def test_the_http_api_names_every_route(route: str) -> None:
    pages = page("http-api.md") + page("isolate-protocol.md")
    assert f"{route}`" in pages or f"{route}?" in pages


@pytest.mark.parametrize(
    "keys",
    [
        job_document(JOB, root_url="", running_attempts=0, expected_seconds_left=None).keys(),
        attempt_document(JOB.job_id, ATTEMPT, NoResults()).keys(),
        job_document(JOB, root_url="", running_attempts=0, expected_seconds_left=None)["counters"].keys(),
        [only.value for only in AttemptFilter],
    ],
    ids=["job", "attempt", "counters", "filters"],
)
def test_the_http_api_names_every_key(keys: list[str]) -> None:
    assert [key for key in keys if f"`{key}`" not in page("http-api.md")] == []


@pytest.mark.parametrize("key", sorted(job_format._JOB_KEYS | job_format._TASK_KEYS))
def test_the_job_format_names_every_key(key: str) -> None:
    assert f"| `{key}` |" in page("job-json.md")


@pytest.mark.parametrize(
    "limit",
    [
        job_format.MAX_TASKS,
        job_format.MAX_DESCRIPTION_CHARACTERS,
        job_format.MAX_TIMEOUT_SECONDS,
        job_format.MAX_RETRIES,
        job_format.MAX_GLOBS,
        job_format.MAX_GLOB_CHARACTERS,
        job_format.MAX_ENVIRONMENT_CHARACTERS,
        job_format.ORIGINAL_MAX_FAILED_TASKS,
    ],
)
def test_the_job_format_tells_every_limit(limit: int) -> None:
    assert re.search(rf"\b{limit:,}\b", page("job-json.md"))


@pytest.mark.parametrize("status", ExitStatus)
def test_every_exit_code_is_explained(status: ExitStatus) -> None:
    assert f"| {status.value} |" in page("exit-codes.md")


@pytest.mark.parametrize("status", AutoscalerStatus)
def test_every_exit_code_of_the_autoscaler_is_explained(status: AutoscalerStatus) -> None:
    _, _, section = page("exit-codes.md").partition("## `dist-test-autoscale`")
    assert f"| {status.value} |" in section


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_explained(outcome: Outcome) -> None:
    assert f"| `{outcome.value}` |" in page("exit-codes.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_that_are_spoken_of_exist(path: Path) -> None:
    sections = "|".join(sorted(SECTIONS, key=len, reverse=True))
    spoken_of = set(re.findall(rf"`((?:{sections})\.[a-z_]+)`", path.read_text(encoding="utf-8")))
    assert spoken_of - BY_NAME.keys() - FILES_AND_MODULES == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_variables_that_are_spoken_of_exist(path: Path) -> None:
    spoken_of = set(re.findall(r"\bDIST_TEST_[A-Z_]+\b", path.read_text(encoding="utf-8")))
    assert spoken_of - {setting.environment for setting in CATALOG} - VARIABLES_OF_OTHERS == set()
