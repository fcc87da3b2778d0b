"""The first page: what waits and runs, the jobs, the slaves."""

from flask import render_template

from dist_test.master.auth import open_to_all
from dist_test.master.original import METHODS
from dist_test.master.overview import count_fleet
from dist_test.master.pages.blueprint import web
from dist_test.master.query import page, whole_number
from dist_test.master.site import site

JOBS_PER_PAGE = 50


@web.route("/", methods=METHODS)
@open_to_all
def home() -> str:
    here = site()
    slaves = here.service.slaves.all()
    before = whole_number("before", default=None, low=0, high=2**63 - 1)
    jobs, more = page(here.service.jobs.recent(limit=JOBS_PER_PAGE + 1, before=before), JOBS_PER_PAGE)
    return render_template(
        "home.html",
        work=here.overview.work(),
        fleet=count_fleet(slaves),
        slaves=slaves,
        jobs=jobs,
        is_first_page=before is None,
        next=jobs[-1].job_key if more else None,
    )
