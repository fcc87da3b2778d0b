"""The pages for people: HTML from the server, which scripts keep fresh."""

# Each of these modules puts its addresses, or its filters, on `web`.
from dist_test.master.pages import actions, artifacts, filters, history, home, job, log, task, trace
from dist_test.master.pages.blueprint import web

__all__ = ["actions", "artifacts", "filters", "history", "home", "job", "log", "task", "trace", "web"]
