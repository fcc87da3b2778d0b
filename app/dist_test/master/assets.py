"""Our own static files, under addresses that change with their content, so that browsers keep them for a year."""

import hashlib
from functools import cache
from pathlib import Path

from flask import Flask, url_for

KEPT_SECONDS = 365 * 24 * 3600


def install(app: Flask) -> None:
    """Give templates `static(name)`, the address of a file below `static/`."""
    app.config["SEND_FILE_MAX_AGE_DEFAULT"] = KEPT_SECONDS
    directory = Path(app.static_folder or "")

    @cache
    def version(name: str) -> str:
        return hashlib.sha256((directory / name).read_bytes()).hexdigest()[:12]

    def address(name: str) -> str:
        return url_for("static", filename=name, v=version(name))

    app.jinja_env.globals["static"] = address
