"""The part of a job's attempts that a page of them shows: what its address says about filter, order and place."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import request
from werkzeug.exceptions import BadRequest

from dist_test.master.query import choice, page
from dist_test.storage.attempt_lists import AttemptLists, AttemptSort, Place, place_of
from dist_test.storage.jobs import AttemptFilter, AttemptRecord

ATTEMPTS_PER_PAGE = 100
MAX_SEARCH_CHARACTERS = 200
_CURSOR = re.compile(
    r"(?:(?P<value>-?[0-9]{1,20}(?:\.[0-9]{1,30})?(?:e[-+][0-9]{1,3})?)_)?(?P<task>[0-9]{1,9})\.(?P<attempt>[0-9]{1,5})"
)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What was asked for. `after` is the cursor as it stands in the address, `place` what it says."""

    job_id: str
    only: AttemptFilter | None
    search: str
    sort: AttemptSort
    after: str | None
    place: Place | None

    @classmethod
    def asked(cls, job_id: str) -> "Listing":
        """The listing that the request asks for. Raises BadRequest."""
        sort, after = choice("sort", AttemptSort) or AttemptSort.TASK, request.args.get("after")
        search = request.args.get("q", "")
        if len(search) > MAX_SEARCH_CHARACTERS:
            raise BadRequest(f"q has {len(search)} characters; the limit is {MAX_SEARCH_CHARACTERS}")
        return cls(
            job_id=job_id,
            only=choice("state", AttemptFilter),
            search=search,
            sort=sort,
            after=after,
            place=None if after is None else read_cursor(after, sort),
        )

    @property
    def address(self) -> Mapping[str, str]:
        """The parameters that give the first page of the same list; what says nothing is left out."""
        named = {
            "state": "" if self.only is None else self.only.value,
            "q": self.search,
            "sort": "" if self.sort is AttemptSort.TASK else self.sort.value,
        }
        return {"job_id": self.job_id} | {name: value for name, value in named.items() if value}

    def read(self, lists: AttemptLists, job_key: int) -> tuple[Sequence[AttemptRecord], bool]:
        """The attempts of the page, and whether others follow. Raises BadRequest for a cursor that nobody made."""
        try:
            found = lists.page(
                job_key,
                sort=self.sort,
                only=self.only,
                search=self.search,
                after=self.place,
                limit=ATTEMPTS_PER_PAGE + 1,
            )
        except OverflowError as exc:
            raise _no_cursor(self.after or "") from exc
        return page(found, ATTEMPTS_PER_PAGE)

    def cursor_after(self, attempt: AttemptRecord) -> str:
        """The cursor of the page that goes on after this attempt."""
        return write_cursor(place_of(attempt, self.sort))


def write_cursor(place: Place) -> str:
    """The place as text. PURE."""
    value = "" if place.value is None else f"{place.value!r}_"
    return f"{value}{place.task}.{place.attempt}"


def read_cursor(text: str, sort: AttemptSort) -> Place:
    """The place that `write_cursor` wrote for this sort. Raises BadRequest. PURE."""
    match = _CURSOR.fullmatch(text)
    if match is None or (match["value"] is None) != (sort is AttemptSort.TASK):
        raise _no_cursor(text)
    value = _number(match["value"])
    if value is not None and not math.isfinite(value):  # "1e+999", which no database takes
        raise _no_cursor(text)
    return Place(value, int(match["task"]), int(match["attempt"]))


def _number(text: str | None) -> float | int | None:
    if text is None:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _no_cursor(text: str) -> BadRequest:
    return BadRequest(f"after is {text!r:.60}; give what an earlier page of the same order said")
