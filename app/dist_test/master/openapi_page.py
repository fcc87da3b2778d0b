"""`/api/v1/` and `/api/v1/openapi.json`: the description of the API, for people and for programs."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, render_template, request
from markupsafe import Markup, escape

from dist_test.master.auth import open_to_all
from dist_test.master.failures import ERROR_STATUSES
from dist_test.master.openapi import ABOUT, ERROR_MEANINGS, JSON, Operation, document
from dist_test.master.openapi_operations import OPERATIONS
from dist_test.master.openapi_schemas import SCHEMAS, Schema

openapi = Blueprint("openapi", __name__, url_prefix="/api/v1")

_CODE = re.compile(r"`([^`]+)`")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A key of an object: its kind of value in words, and the name of the schema that this kind links to."""

    name: str
    kind: str
    link: str | None
    about: str
    is_required: bool


@openapi.get("/openapi.json")
@open_to_all
def served() -> Response:
    return jsonify(document(OPERATIONS))


@openapi.get("/")
@open_to_all
def page() -> str:
    return render_template(
        "api.html",
        about=ABOUT,
        operations=OPERATIONS,
        schemas=SCHEMAS,
        errors=ERROR_STATUSES,
        meanings=ERROR_MEANINGS,
        root_url=request.host_url.rstrip("/"),
    )


@openapi.app_template_filter("curl")
def curl(operation: Operation, root_url: str) -> str:
    """The command that asks for the operation's example. PURE."""
    words = ["curl", "--fail-with-body"]
    if operation.body is not None:
        words += ["--header", f"Content-Type: {JSON}", "--data", json.dumps(operation.body.example)]
    elif operation.method != "GET":
        words += ["--request", operation.method]
    return " ".join(quote(word) for word in [*words, root_url + _example_path(operation)])


def _example_path(operation: Operation) -> str:
    path, query = operation.path, {}
    for parameter in operation.parameters:
        if parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", str(parameter.example))
        else:
            query[parameter.name] = parameter.example
    return f"{path}?{urlencode(query)}" if query else path


@openapi.app_template_filter("rows")
def rows(schema: Schema, prefix: str = "") -> Iterator[Row]:
    """The keys of an object, with those of the objects inside of it that have no name of their own. PURE."""
    for name, value in schema.get("properties", {}).items():
        yield Row(
            name=prefix + name,
            kind=kind(value),
            link=_link(value),
            about=value.get("description", ""),
            is_required=name in schema.get("required", ()),
        )
        yield from rows(value, f"{prefix}{name}.")


def _link(schema: Schema) -> str | None:
    reference = schema.get("$ref") or schema.get("items", {}).get("$ref")
    return None if reference is None else str(reference).rpartition("/")[2]


@openapi.app_template_filter("kind")
def kind(schema: Schema) -> str:
    """What values the schema allows, in a few words. PURE."""
    if "$ref" in schema:
        return _link(schema) or ""
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    told = _one_of(schema) if "enum" in schema else _KINDS[types[0]](schema)
    return f"{told}, or null" if "null" in types else told


def _one_of(schema: Schema) -> str:
    return ", ".join(f"`{value}`" for value in schema["enum"] if value)


def _text(schema: Schema) -> str:
    if "format" in schema:
        return {"date-time": "time", "uri": "address"}[schema["format"]]
    return f"text, up to {schema['maxLength']:,} characters" if "maxLength" in schema else "text"


def _number(schema: Schema) -> str:
    if "maximum" in schema:
        return f"{schema['minimum']:,} to {schema['maximum']:,}"
    return "whole number" if schema["type"] == "integer" or "integer" in schema["type"] else "number"


def _list(schema: Schema) -> str:
    of_what = kind(schema["items"])
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    return f"list of {of_what}" if high is None else f"list of {low:,} to {high:,}: {of_what}"


def _object(schema: Schema) -> str:
    values = schema.get("additionalProperties")
    return f"object of {kind(values)} each" if values else "object"


_KINDS: dict[str, Any] = {
    "string": _text,
    "integer": _number,
    "number": _number,
    "boolean": lambda _: "true or false",
    "array": _list,
    "object": _object,
}


@openapi.app_template_filter("code_marked")
def code_marked(text: str) -> Markup:
    """The text as HTML, with what stands in backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


@openapi.app_template_filter("json")
def _json(value: Any) -> str:
    return json.dumps(value, indent=2)
