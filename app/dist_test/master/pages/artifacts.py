"""The artifacts of an attempt, listed and handed out one by one."""

import re
from collections.abc import Iterator
from contextlib import ExitStack

from flask import Response, render_template
from werkzeug.exceptions import NotFound

from dist_test.errors import UnsafeArchive
from dist_test.master import artifact_zip
from dist_test.master.artifact_zip import list_members, opened_member
from dist_test.master.auth import open_to_all
from dist_test.master.pages.attempt import asked_attempt, stored_of
from dist_test.master.pages.blueprint import web
from dist_test.master.pages.log import RAW_POLICY
from dist_test.master.query import required, whole_number
from dist_test.master.site import site
from dist_test.model.result_key import ARTIFACTS

SHOWN_MEMBERS = 2000
_UNUSUAL = re.compile(r"[^A-Za-z0-9._+@=,-]+")
_MAX_FILENAME_CHARACTERS = 120


@web.get("/artifacts")
@open_to_all
def artifacts() -> str:
    attempt = asked_attempt()
    stored = stored_of(required("job_id"), attempt, ARTIFACTS)
    problem = None
    try:
        members = list_members(site().results, stored.key, stored.size_bytes)
    except UnsafeArchive as exc:
        members, problem = [], str(exc)
    return render_template(
        "artifacts.html",
        job_id=required("job_id"),
        attempt=attempt,
        size_bytes=stored.size_bytes,
        members=members[:SHOWN_MEMBERS],
        total=len(members),
        problem=problem,
    )


@web.get("/artifact")
@open_to_all
def artifact() -> Response:
    """One file of an archive, by its place in the directory: names may be anything, and not even different."""
    stored = stored_of(required("job_id"), asked_attempt(), ARTIFACTS)
    number = whole_number("member", default=0, low=0, high=2**31)
    with ExitStack() as stack:
        try:
            opened = opened_member(site().results, stored.key, stored.size_bytes, number)
            member, content = stack.enter_context(opened)
        except UnsafeArchive as exc:
            raise NotFound(f"the archive cannot be read: {exc}") from exc
        response = Response(
            _sent(artifact_zip.chunks(content), stack.pop_all()), content_type="application/octet-stream"
        )
    response.content_length = member.size_bytes
    response.headers.set("Content-Disposition", "attachment", filename=safe_filename(member.name))
    response.headers["Content-Security-Policy"] = RAW_POLICY
    return response


def _sent(content: Iterator[bytes], opened: ExitStack) -> Iterator[bytes]:
    with opened:
        yield from content


def safe_filename(name: str) -> str:
    """A name for somebody's disk: the last part of a member's, without what a shell or a browser minds. PURE."""
    last = re.split(r"[/\\]", name)[-1]
    return _UNUSUAL.sub("_", last).lstrip(".-")[-_MAX_FILENAME_CHARACTERS:] or "artifact"
