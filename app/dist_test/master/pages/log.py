"""The log of an attempt: its end first, what is above it by pieces, in search of something, raw, or live."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response, jsonify, render_template, request, url_for
from markupsafe import Markup
from werkzeug.exceptions import BadRequest

from dist_test.errors import ResultNotFound, ResultStoreUnavailable
from dist_test.master.auth import open_to_all
from dist_test.master.links import stored_bytes
from dist_test.master.live import StreamName
from dist_test.master.pages.attempt import Stored, asked_attempt, stored_of
from dist_test.master.pages.blueprint import web
from dist_test.master.query import choice, required, whole_number
from dist_test.master.site import site
from dist_test.master.stored_log import PIECE_BYTES, Matches, Piece, chunks, read_piece, search
from dist_test.master.terminal_text import to_html, to_text
from dist_test.storage.jobs import AttemptRecord

MAX_SEARCH_CHARACTERS = 200
MAX_OFFSET = 2**63 - 1
# Text of tests by itself, in an address of ours: nothing in it may run, whatever a browser takes it for.
RAW_POLICY = "default-src 'none'; sandbox"


@dataclass(frozen=True, kw_only=True)
class LogView:
    """A log as a panel shows it: a piece of what is stored, or a live end, or a line on why there is none.

    marked_at: the offset of a line to point at. live_url: what tells of an attempt that runs.
    """

    job_id: str
    attempt: AttemptRecord
    name: StreamName
    size_bytes: int | None
    piece: Piece | None = None
    marked_at: int | None = None
    live_url: str | None = None
    note: str | None = None

    @property
    def address(self) -> Mapping[str, Any]:
        """The parameters that name this log."""
        return {
            "job_id": self.job_id,
            "task_id": self.attempt.task_id,
            "attempt": self.attempt.key.attempt,
            "log": self.name.value,
        }

    @property
    def html(self) -> Markup:
        """The piece, with the marked line in a `mark`."""
        assert self.piece is not None  # the template asks
        data = self.piece.data
        begin = None if self.marked_at is None else self.marked_at - self.piece.start
        if begin is None or not 0 <= begin < len(data):
            return to_html(data)
        end = data.find(b"\n", begin) % (len(data) + 1)  # -1, no such, is the end
        line = Markup('<mark id="at">{}</mark>').format(to_html(data[begin:end]))
        return to_html(data[:begin]) + line + to_html(data[end:])


def view_of(job_id: str, attempt: AttemptRecord, name: StreamName, *, before: int | None = None) -> LogView:
    """What to show of a log: the piece that ends at byte `before`, the last one for None."""
    size = stored_bytes(attempt, name)
    if size is None:
        return _unstored_view(job_id, attempt, name)
    end = size if before is None else min(before, size)
    try:
        piece = read_piece(site().results, stored_of(job_id, attempt, name).key, end=end)
    except (ResultNotFound, ResultStoreUnavailable) as exc:
        # The rest of the page is no worse for it.
        why = "it is gone" if isinstance(exc, ResultNotFound) else "the store of logs does not answer at the moment"
        return LogView(job_id=job_id, attempt=attempt, name=name, size_bytes=size, note=f"It cannot be read: {why}.")
    return LogView(job_id=job_id, attempt=attempt, name=name, size_bytes=size, piece=piece)


def _unstored_view(job_id: str, attempt: AttemptRecord, name: StreamName) -> LogView:
    live_url, number = None, attempt.key.attempt
    if attempt.state != "finished":
        live_url = url_for("api.log", job_id=job_id, task=attempt.task_id, stream=name.value, attempt=number)
    note = _why_unstored(attempt)
    return LogView(job_id=job_id, attempt=attempt, name=name, size_bytes=None, live_url=live_url, note=note)


def _why_unstored(attempt: AttemptRecord) -> str:
    if attempt.logs_lost:
        return "The log was lost before it could be stored."
    if attempt.state != "finished":
        return f"The attempt is {attempt.state}."
    return "No log was stored: those of attempts that succeed are not kept, and not every attempt gets to run."


@web.get("/log")
@open_to_all
def log() -> str:
    attempt, name = asked_attempt(), _name()
    wanted = request.args.get("q", "")
    if len(wanted) > MAX_SEARCH_CHARACTERS:
        raise BadRequest(f"q has {len(wanted)} characters; the limit is {MAX_SEARCH_CHARACTERS}")
    marked_at = whole_number("at", default=None, low=0, high=MAX_OFFSET)
    before = whole_number("before", default=None, low=0, high=MAX_OFFSET)
    if before is None and marked_at is not None:
        before = marked_at + PIECE_BYTES // 2
    view = view_of(required("job_id"), attempt, name, before=before)
    if marked_at is not None:
        view = _marked(view, marked_at)
    matches = _matches(required("job_id"), attempt, name, wanted) if wanted and view.piece is not None else None
    return render_template("log.html", view=view, matches=matches, wanted=wanted)


def _marked(view: LogView, offset: int) -> LogView:
    return LogView(**(vars(view) | {"marked_at": offset}))


def _name() -> StreamName:
    return choice("log", StreamName) or StreamName.STDOUT


def _matches(job_id: str, attempt: AttemptRecord, name: StreamName, wanted: str) -> Matches:
    return search(chunks(site().results.open(stored_of(job_id, attempt, name).key)), wanted)


@web.get("/log/piece")
@open_to_all
def log_piece() -> Response:
    """A piece for the page's script: as HTML, since colours are made here."""
    stored = _stored_log()
    before = whole_number("before", default=stored.size_bytes, low=0, high=MAX_OFFSET)
    piece = read_piece(site().results, stored.key, end=min(before, stored.size_bytes))
    return jsonify({"start": piece.start, "end": piece.end, "html": to_html(piece.data)})


@web.get("/log/raw")
@open_to_all
def raw_log() -> Response:
    """The bytes of a log. `save=1`: for the disk, not for the screen."""
    stored = _stored_log()
    stream = site().results.open(stored.key)
    response = Response(chunks(stream), content_type="text/plain; charset=utf-8")
    response.call_on_close(stream.close)
    response.content_length = stored.size_bytes
    kind = "attachment" if request.args.get("save") else "inline"
    response.headers.set("Content-Disposition", kind, filename=f"{stored.filename}.txt")
    response.headers["Content-Security-Policy"] = RAW_POLICY
    return response


def _stored_log() -> Stored:
    return stored_of(required("job_id"), asked_attempt(), _name())


@web.app_template_filter("terminal_text")
def _terminal_text(data: bytes) -> str:
    return to_text(data)
