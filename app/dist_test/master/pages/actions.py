"""What people may do to a job from its page. The guard of auth.py decides, and refuses forms of other sites."""

from flask import redirect, render_template, request, url_for
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as AnyResponse

from dist_test.master.api import MAX_REASON_CHARACTERS, canceled_by, is_reason
from dist_test.master.auth import current_owner, open_to_all
from dist_test.master.pages.blueprint import web
from dist_test.master.query import required
from dist_test.master.site import site


@web.get("/job/cancel")
@open_to_all
def confirm_cancel() -> str:
    """Ask for a reason and a second thought. Changes nothing."""
    record = site().service.jobs.get(required("job_id"))
    return render_template("cancel.html", job=record, max_reason_characters=MAX_REASON_CHARACTERS)


@web.post("/job/cancel")
def cancel() -> AnyResponse:
    job_id, reason = required("job_id"), request.form.get("reason", "").strip()
    if not is_reason(reason):
        raise BadRequest(f"reason must be one line of at most {MAX_REASON_CHARACTERS} characters")
    site().service.cancel(job_id, reason or canceled_by())
    return _to_job(job_id)


@web.get("/job/audit")
@open_to_all
def audit() -> str:
    """Show that nothing of the job is lost, or what is. On demand: it takes a second for a job of 100,000 attempts."""
    record = site().service.jobs.get(required("job_id"))
    found = site().audits.one(record.job_id)
    return render_template("audit.html", job=record, report=found.reports[0], ownerless=found.ownerless)


@web.post("/job/rerun")
def rerun() -> AnyResponse:
    record, _ = site().service.rerun(required("job_id"), current_owner(""))
    return _to_job(record.job_id)


def _to_job(job_id: str) -> AnyResponse:
    # 303: the browser goes on with GET, and a reload asks for nothing twice.
    return redirect(url_for("web.job", job_id=job_id), code=303)
