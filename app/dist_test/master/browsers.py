"""Tell requests that a browser was made to send from those that somebody meant to send. PURE."""

from collections.abc import Mapping
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_cross_site(headers: Mapping[str, str], host: str) -> bool:
    """Whether a page of another site may have caused this request. `host` is the one that was asked, with its port."""
    if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return True
    origin = headers.get("Origin")
    return origin is not None and not _is_of_host(origin, host)


def is_from_browser(headers: Mapping[str, str]) -> bool:
    """Whether a browser sent this: they alone tell of fetches and origins, would rather have HTML, or are Mozilla."""
    if "Origin" in headers or "text/html" in headers.get("Accept", ""):
        return True
    # A picture of another site's page, asked for over plain http from a host that is not loopback, bears nothing else.
    if headers.get("User-Agent", "").startswith("Mozilla/"):
        return True
    return any(name.lower().startswith("sec-fetch-") for name in headers)


def _is_of_host(origin: str, host: str) -> bool:
    # The scheme may differ: a proxy in front of us may speak https.
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    port = _DEFAULT_PORTS.get(parts.scheme, "")
    return bool(parts.netloc) and parts.netloc.lower().removesuffix(port) == host.lower().removesuffix(port)
