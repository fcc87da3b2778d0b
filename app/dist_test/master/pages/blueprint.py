"""What all pages belong to."""

from flask import Blueprint, Response, render_template

web = Blueprint("web", __name__)


def no_job(job_id: str) -> Response:
    """The page that a job is not known, in the words that scrapers of the original look for."""
    text = f"No tasks found for specified job_id {job_id}. A job that ended long ago is removed, and its logs with it."
    return Response(render_template("message.html", title="Job", message=text), status=404)
