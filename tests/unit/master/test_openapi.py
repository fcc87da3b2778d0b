"""The description of the API has what the code has: routes, parameters, rights, errors, keys."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest
from flask import Flask

from dist_test.master import api as api_module
from dist_test.master.api import api
from dist_test.master.failures import ERROR_STATUSES
from dist_test.master.openapi import ERROR_MEANINGS, Content, Operation, document
from dist_test.master.openapi_operations import OPERATIONS
from dist_test.master.openapi_page import curl, openapi, rows
from dist_test.master.openapi_schemas import SCHEMAS
from dist_test.master.operations import operations
from dist_test.model import job as job_format

BY_NAME = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
# For people, and for Prometheus.
OTHERS = {("GET", "/api/v1/"), ("GET", "/metrics")}
READS_PARAMETER = re.compile(r'(?:whole_number|choice|attempt_cursor|required|args\.get)\("(\w+)"')


def application() -> Flask:
    """The routes alone: nothing can be asked of it."""
    app = Flask("described")
    for blueprint in (api, openapi, operations):
        app.register_blueprint(blueprint)
    return app


APP = application()


def routes() -> Iterator[tuple[str, str, str]]:
    """Method, path and function of what the application knows beside its static files."""
    for rule in APP.url_map.iter_rules():
        if rule.endpoint != "static":
            path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield method, path, rule.endpoint


def view_of(operation: Operation) -> Callable[..., Any]:
    """The function that answers."""
    (endpoint,) = (found for *what, found in routes() if what == [operation.method, operation.path])
    return APP.view_functions[endpoint]


def contents() -> Iterator[Content]:
    for operation in OPERATIONS:
        yield from filter(None, (operation.body, *(answer.content for answer in operation.answers.values())))


def test_every_route_is_described_and_nothing_else() -> None:
    described = {(operation.method, operation.path) for operation in OPERATIONS}

    assert described == {(method, path) for method, path, _ in routes()} - OTHERS


def test_the_document_has_every_operation() -> None:
    paths = document(OPERATIONS)["paths"]

    written = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert written == {(operation.method, operation.path) for operation in OPERATIONS}


@BY_NAME
def test_an_operation_has_the_parameters_that_its_view_reads(operation: Operation) -> None:
    read = READS_PARAMETER.findall(inspect.getsource(view_of(operation)))

    assert sorted(p.name for p in operation.parameters if p.place == "query") == sorted(read)
    in_path = re.findall(r"\{(\w+)\}", operation.path)
    assert [p.name for p in operation.parameters if p.place == "path"] == in_path


@BY_NAME
def test_an_operation_is_open_when_its_view_is(operation: Operation) -> None:
    assert operation.is_open == hasattr(view_of(operation), "is_open_to_all")


def test_every_code_of_an_error_is_explained() -> None:
    assert ERROR_MEANINGS.keys() == ERROR_STATUSES.keys()


def test_a_job_has_the_keys_that_are_read() -> None:
    assert SCHEMAS["NewJob"]["properties"].keys() == job_format._JOB_KEYS
    assert SCHEMAS["NewTask"]["properties"].keys() == job_format._TASK_KEYS


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_schemas_and_lead_somewhere(name: str) -> None:
    jsonschema_rs.meta.validate(SCHEMAS[name])
    assert {row.link for row in rows(SCHEMAS[name])} - {None} <= SCHEMAS.keys()


@pytest.mark.parametrize("content", [*contents()], ids=lambda content: content.schema)
def test_examples_are_what_their_schema_says(content: Content) -> None:
    schema = {"$ref": f"#/components/schemas/{content.schema}", "components": document(OPERATIONS)["components"]}
    jsonschema_rs.validate(schema, content.example)


def test_the_example_of_a_job_is_taken() -> None:
    (submit,) = (operation for operation in OPERATIONS if operation.name == "submit")

    assert submit.body is not None
    assert job_format.parse_job(submit.body.example).job_id == submit.body.example["job_id"]


def test_a_command_asks_for_the_example() -> None:
    by_name = {operation.name: operation for operation in OPERATIONS}

    asked = curl(by_name["attempts"], "http://m")
    assert asked.startswith("curl --fail-with-body 'http://m/api/v1/jobs/nightly.")
    assert asked.endswith("/attempts?state=failed&q=hello-test&limit=100&after=0.0'")
    assert '--data \'{"reason": "the branch is gone"}\'' in curl(by_name["cancel"], "http://m")


def test_what_limits_the_api_is_what_the_description_says() -> None:
    text = str(document(OPERATIONS))

    for limit in (api_module.MAX_JOBS, api_module.MAX_ATTEMPTS, api_module.MAX_SEARCH_CHARACTERS):
        assert f"{limit}" in text
