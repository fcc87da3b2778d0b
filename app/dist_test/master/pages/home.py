"""The first page: what waits and runs, all jobs there ever were, the slaves and what they are at. A page per slave."""

from dataclasses import dataclass

from flask import render_template, request

from dist_test.master.auth import open_to_all
from dist_test.master.original import METHODS
from dist_test.master.overview import count_fleet
from dist_test.master.pages.blueprint import web
from dist_test.master.pages.fleet_view import view_fleet, view_slave
from dist_test.master.query import choice, required, whole_number
from dist_test.master.site import site
from dist_test.storage.job_lists import JobFilter, JobSearch

JOBS_PER_PAGE = 50
_HIGHEST_KEY = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which jobs the page lists: `before` and `after` are keys of jobs."""

    search: JobSearch
    before: int | None
    after: int | None

    @property
    def is_overview(self) -> bool:
        """Whether this is the page without any search."""
        return self == Asked(search=JobSearch(), before=None, after=None)


@web.route("/", methods=METHODS)
@open_to_all
def home() -> str:
    # Hundreds look at it all day, and it is the same for all.
    asked = _asked()
    return site().home.get(asked, lambda: _render(asked))


@web.get("/slave")
@open_to_all
def slave() -> str:
    """A slave, and all that it runs."""
    found = site().service.slaves.get(required("slave_id"))
    running = site().service.jobs.running_on(found.slave_id)
    return render_template("slave.html", view=view_slave(found, running))


def _asked() -> Asked:
    args = {name: request.args.get(name, "").strip() for name in ("q", "job", "owner", "project")}
    text = args.pop("q")
    return Asked(
        search=JobSearch(text=text, only=choice("state", JobFilter), **args),
        before=whole_number("before", default=None, low=0, high=_HIGHEST_KEY),
        after=whole_number("after", default=None, low=0, high=_HIGHEST_KEY),
    )


def _render(asked: Asked) -> str:
    here = site()
    slaves = here.service.slaves.all()
    running = here.service.jobs.running_everywhere() if asked.is_overview else []
    return render_template(
        "home.html",
        asked=asked,
        work=here.overview.work(),
        fleet=count_fleet(slaves),
        busy=sum(slave.busy for slave in slaves if slave.is_live),
        seconds_to_drain=here.forecast.seconds_to_drain(),
        page=here.service.job_lists.page(asked.search, limit=JOBS_PER_PAGE, before=asked.before, after=asked.after),
        seconds_left=here.forecast.seconds_left,
        filters=list(JobFilter),
        slaves=view_fleet(slaves, running) if asked.is_overview else None,
    )
